import { createGathering } from '../../util/concurrency.ts';
import { compressHere, compressTogether } from './frames.ts';
import type { Uncompressed } from './frames.ts';

/** What is no longer than this, in bytes, is compressed as one frame, with others. */
export const smallBytes = 64 * 1024;

/** Fewer than these are not worth a thread's start. */
const fewestForThread = 16;

interface Waiting extends Uncompressed {
  readonly settled: PromiseWithResolvers<Uint8Array>;
}

const compress = createGathering(compressPack);

/**
 * Compresses what is small, up to {@link smallBytes}, as one frame: with others that come at once on
 * another thread, alone on this one. What comes while some are on their way goes as the next, so one
 * thread does for all: to check what is small takes this one longer than that one to compress it.
 */
export function compressSmall(contents: Uint8Array, level: number): Promise<Uint8Array> {
  const settled = Promise.withResolvers<Uint8Array>();
  compress({ contents, level, settled });
  return settled.promise;
}

async function compressPack(pack: readonly Waiting[]): Promise<void> {
  if (pack.length < fewestForThread) for (const one of pack) settleHere(one);
  else await settleTogether(pack);
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
