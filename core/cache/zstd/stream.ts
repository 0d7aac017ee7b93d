import { Readable, pipeline } from 'node:stream';
import { constants, createZstdDecompress } from 'node:zlib';

import { maxZstdWindowLog } from '../../limits.ts';
import { createFrameMemory } from './frames.ts';
import type { FrameMemory } from './frames.ts';
import type { Compression } from '../config.ts';
import { createFrameWalker, frameKindBytes } from './frame-parser.ts';
import type { FrameWalker } from './frame-parser.ts';

/**
 * Uncompressed bytes in a frame. Frames are independent, so they are compressed at once and a
 * reader may decompress them at once. Some six times as much is held, with what zlib needs: of twice
 * the size, that would be more than a publisher is to take, to save 0.7 % of what it stores.
 */
export const frameBytes = 8 * 1024 * 1024;

const outputChunkBytes = 1024 * 1024;

/** Each frame costs a decoder, so those that yield nothing must not be many. */
const maxEmptyFrames = 64;

/**
 * Compresses a stream as zstd frames of {@link frameBytes}, `parallelism` at a time on threads of
 * their own. Holds at most `parallelism + 2` frames, each in the place of its contents: one more
 * than are compressed or being filled, so that a thread need not wait for what follows the frame
 * that it has done.
 *
 * @returns frames that are lent: done with when the next is asked for
 */
export async function* compressZstd(
  source: AsyncIterable<Uint8Array>,
  options: {
    readonly level: number;
    readonly parallelism: number;
    /** The source's length in bytes, so that what is small gets little memory. */
    readonly totalBytes: number;
  },
): AsyncIterable<Uint8Array> {
  const { level, parallelism, totalBytes } = options;
  const capacity = Math.max(1, Math.min(frameBytes, totalBytes));

  const running: { readonly memory: FrameMemory; readonly frame: Promise<Uint8Array> }[] = [];
  const spare: FrameMemory[] = [];
  let memory: FrameMemory | null = null;
  let filled = 0;

  function submit(): void {
    if (!memory) return;
    const frame = memory.compress(filled, level);
    // Awaited in turn below; until then a failure must not count as unhandled.
    frame.catch(() => undefined);
    running.push({ memory, frame });
    memory = null;
    filled = 0;
  }

  async function* finished(atMost: number): AsyncIterable<Uint8Array> {
    while (running.length > atMost) {
      const [oldest] = running;
      if (!oldest) return;
      yield await oldest.frame;
      running.shift();
      spare.push(oldest.memory);
    }
  }

  try {
    for await (const chunk of source) {
      for (let offset = 0; offset < chunk.length;) {
        memory ??= spare.pop() ?? createFrameMemory(capacity);
        const part = chunk.subarray(offset, offset + capacity - filled);
        memory.contents.set(part, filled);
        filled += part.length;
        offset += part.length;
        if (filled < capacity) continue;
        submit();
        yield* finished(parallelism + 1);
      }
    }
    submit();
    yield* finished(0);
  } finally {
    await Promise.allSettled(running.map(({ frame }) => frame));
  }
}

/**
 * Decompresses concatenated zstd frames. Each gets a decoder of its own: node:zlib's drops, without
 * a word, what follows a frame's end within a chunk.
 *
 * @throws Error when they are damaged or break off: zlib's own, or one of {@link createFrameWalker}
 */
export async function* decompressZstd(
  source: AsyncIterable<Uint8Array>,
): AsyncIterable<Uint8Array> {
  const chunks = source[Symbol.asyncIterator]();
  let rest: Uint8Array = new Uint8Array();
  let emptyFrames = 0;

  /** Whether there are bytes in `rest`, once more are fetched if need be. */
  async function fill(): Promise<boolean> {
    while (rest.length === 0) {
      const next = await chunks.next();
      if (next.done === true) return false;
      rest = next.value;
    }
    return true;
  }

  async function* pieces(walker: FrameWalker): AsyncIterable<Uint8Array> {
    while (!walker.isDone()) {
      if (!(await fill())) throw new Error('the last zstd frame breaks off');
      const piece = rest.subarray(0, walker.take(rest));
      rest = rest.subarray(piece.length);
      yield piece;
    }
  }

  try {
    while (await fill()) {
      const walker = createFrameWalker();
      const frame = pieces(walker)[Symbol.asyncIterator]();
      const beginning = await take(frame, frameKindBytes);
      let size = 0;
      if (walker.hasContents()) {
        for await (const chunk of decodeFrame(joined(beginning, frame))) {
          size += chunk.length;
          yield chunk;
        }
      } else {
        while ((await frame.next()).done !== true);
      }
      emptyFrames += size === 0 ? 1 : 0;
      if (emptyFrames > maxEmptyFrames) throw new Error('too many zstd frames without contents');
    }
  } finally {
    await chunks.return?.();
  }
}

/** The next pieces of `source` until they have `bytes` bytes. */
async function take(source: AsyncIterator<Uint8Array>, bytes: number): Promise<Uint8Array[]> {
  const taken: Uint8Array[] = [];
  for (let size = 0; size < bytes; size += taken.at(-1)?.length ?? 0) {
    const next = await source.next();
    if (next.done === true) break;
    taken.push(next.value);
  }
  return taken;
}

async function* joined(
  beginning: readonly Uint8Array[],
  rest: AsyncIterator<Uint8Array>,
): AsyncIterable<Uint8Array> {
  yield* beginning;
  for (let next = await rest.next(); next.done !== true; next = await rest.next()) yield next.value;
}

async function* decodeFrame(frame: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
  const decoder = createZstdDecompress({
    params: { [constants.ZSTD_d_windowLogMax]: maxZstdWindowLog },
    chunkSize: outputChunkBytes,
  });
  // The pipeline destroys the decoder with whatever went wrong, and the iteration throws it.
  const output = pipeline(Readable.from(frame, { objectMode: true }), decoder, () => undefined);
  for await (const chunk of output) yield chunk as Buffer;
}

/** What the compression adds to a NAR's name. */
export const narSuffix: Readonly<Record<Compression['kind'], string>> = {
  zstd: '.nar.zst',
  none: '.nar',
};
