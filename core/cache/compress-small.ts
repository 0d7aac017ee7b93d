import { compressHere, compressTogether, frameThreads } from './compress-frame.ts';
import type { Uncompressed } from './compress-frame.ts';

/** What is no longer than this, in bytes, is compressed as one frame, with others. */
export const smallBytes = 64 * 1024;

/** Fewer than these are not worth a thread's start. */
const fewestForThreads = 16;

interface Waiting extends Uncompressed {
  readonly settled: PromiseWithResolvers<Uint8Array>;
}

let waiting: Waiting[] = [];

/**
 * Compresses what is small, up to {@link smallBytes}, as one frame: with others that come at once on
 * other threads, alone on this one.
 */
export function compressSmall(contents: Uint8Array, level: number): Promise<Uint8Array> {
  // Not before everyone who has something to compress by now has said so.
  if (waiting.length === 0) setImmediate(compressWaiting);
  const settled = Promise.withResolvers<Uint8Array>();
  waiting.push({ contents, level, settled });
  return settled.promise;
}

function compressWaiting(): void {
  const all = waiting;
  waiting = [];
  if (all.length < fewestForThreads) {
    for (const one of all) settleHere(one);
    return;
  }
  const packSize = Math.ceil(all.length / frameThreads);
  for (let begin = 0; begin < all.length; begin += packSize) {
    void settleTogether(all.slice(begin, begin + packSize));
  }
}

function settleHere(one: Waiting): void {
  try {
    one.settled.resolve(compressHere(one));
  } catch (error) {
    one.settled.reject(error);
  }
}

async function settleTogether(pack: readonly Waiting[]): Promise<void> {
  try {
    const frames = await compressTogether(pack);
    for (const [index, frame] of frames.entries()) pack[index]?.settled.resolve(frame);
  } catch (error) {
    for (const { settled } of pack) settled.reject(error);
  }
}
