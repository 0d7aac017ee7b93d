import { Readable, pipeline } from 'node:stream';
import { constants, createZstdDecompress } from 'node:zlib';

import { maxBatchPaths, maxZstdWindowLog } from '../../limits.ts';
import { createFrameParser, frameKindBytes } from './frame-parser.ts';
import type { FrameParser } from './frame-parser.ts';
import { createFrameBuffer } from './frames.ts';
import type { FrameBuffer } from './frames.ts';

/**
 * Uncompressed size of a frame, in bytes. Frames are independent: niche compresses them in parallel,
 * and a reader may decompress them in parallel. Compression holds about six times this much. Frames
 * of twice the size would save 0.7 % of storage and exceed the memory of a publisher.
 */
export const frameBytes = 8 * 1024 * 1024;

const outputChunkBytes = 1024 * 1024;

/**
 * Each frame costs a decoder, a quarter of a millisecond, so an attacker must not get away with many
 * small ones. Each of the NARs in a batch may have one, and some more.
 */
const maxSmallFrames = maxBatchPaths + 64;

/** Frames with less contents, in bytes, are small. */
const minFrameBytes = 64 * 1024;

/** Each block costs time as well, also an empty one. Compressors make blocks of some KiB and more. */
const minBlockBytes = 256;
const maxSmallBlocks = 1024 * 1024;

/**
 * Compresses a stream as zstd frames of {@link frameBytes}, `parallelism` at a time in workers. Holds
 * at most `parallelism + 2` frame buffers: one is being filled and one holds a finished frame, so
 * that no worker waits for the consumer.
 *
 * @returns frames, each valid only until the next is requested: their memory is reused
 */
export async function* compressZstd(
  source: AsyncIterable<Uint8Array>,
  options: {
    readonly level: number;
    readonly parallelism: number;
    /** Length of the source, in bytes: a small source gets small buffers. */
    readonly totalBytes: number;
  },
): AsyncIterable<Uint8Array> {
  const { level, parallelism, totalBytes } = options;
  const capacity = Math.max(1, Math.min(frameBytes, totalBytes));

  const running: { readonly buffer: FrameBuffer; readonly frame: Promise<Uint8Array> }[] = [];
  const spare: FrameBuffer[] = [];
  let buffer: FrameBuffer | null = null;
  let filled = 0;

  function submit(): void {
    if (!buffer) return;
    const frame = buffer.compress(filled, level);
    // `finished` awaits it later; until then a failure must not count as unhandled.
    frame.catch(() => undefined);
    running.push({ buffer, frame });
    buffer = null;
    filled = 0;
  }

  /** Yields the oldest frames until at most `limit` are left running. */
  async function* finished(limit: number): AsyncIterable<Uint8Array> {
    while (running.length > limit) {
      const [oldest] = running;
      if (!oldest) return;
      yield await oldest.frame;
      running.shift();
      spare.push(oldest.buffer);
    }
  }

  try {
    for await (const chunk of source) {
      for (let offset = 0; offset < chunk.length;) {
        buffer ??= spare.pop() ?? createFrameBuffer(capacity);
        const part = chunk.subarray(offset, offset + capacity - filled);
        buffer.contents.set(part, filled);
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
 * Decompresses concatenated zstd frames. Each frame gets its own decoder, because node:zlib's decoder
 * silently drops the bytes that follow the end of a frame within a chunk.
 *
 * @param maxWindowLog the largest window that is decoded, as log2 of bytes
 * @throws Error when the data is damaged or truncated: zlib's own error, or {@link createFrameParser}'s
 */
export async function* decompressZstd(
  source: AsyncIterable<Uint8Array>,
  maxWindowLog = maxZstdWindowLog,
): AsyncIterable<Uint8Array> {
  const chunks = source[Symbol.asyncIterator]();
  let rest: Uint8Array = new Uint8Array();
  let smallFrames = 0;
  /** Of all frames. */
  let blocks = 0;
  let bytes = 0;

  /** Fetches the next chunk when `rest` is empty. Returns false at the end of the source. */
  async function fill(): Promise<boolean> {
    while (rest.length === 0) {
      const next = await chunks.next();
      if (next.done === true) return false;
      rest = next.value;
    }
    return true;
  }

  /** Yields the bytes of one frame. */
  async function* framePieces(parser: FrameParser): AsyncIterable<Uint8Array> {
    while (!parser.isDone()) {
      if (!(await fill())) throw new Error('the last zstd frame is truncated');
      const piece = rest.subarray(0, parser.take(rest));
      rest = rest.subarray(piece.length);
      if (blocks + parser.blocks() > maxSmallBlocks + bytes / minBlockBytes) {
        throw new Error('too many small zstd blocks');
      }
      yield piece;
    }
  }

  try {
    while (await fill()) {
      const parser = createFrameParser();
      const frame = framePieces(parser)[Symbol.asyncIterator]();
      const start = await readAtLeast(frame, frameKindBytes);
      let size = 0;
      if (parser.hasContents()) {
        for await (const chunk of decodeFrame(concat(start, frame), maxWindowLog)) {
          size += chunk.length;
          bytes += chunk.length;
          yield chunk;
        }
      } else {
        while ((await frame.next()).done !== true);
      }
      blocks += parser.blocks();
      smallFrames += size < minFrameBytes ? 1 : 0;
      if (smallFrames > maxSmallFrames) throw new Error('too many small zstd frames');
    }
  } finally {
    await chunks.return?.();
  }
}

/** Reads pieces of `source` until they add up to `bytes` bytes, or it ends. */
async function readAtLeast(
  source: AsyncIterator<Uint8Array>,
  bytes: number,
): Promise<Uint8Array[]> {
  const pieces: Uint8Array[] = [];
  for (let size = 0; size < bytes; size += pieces.at(-1)?.length ?? 0) {
    const next = await source.next();
    if (next.done === true) break;
    pieces.push(next.value);
  }
  return pieces;
}

async function* concat(
  start: readonly Uint8Array[],
  rest: AsyncIterator<Uint8Array>,
): AsyncIterable<Uint8Array> {
  yield* start;
  for (let next = await rest.next(); next.done !== true; next = await rest.next()) yield next.value;
}

async function* decodeFrame(
  frame: AsyncIterable<Uint8Array>,
  maxWindowLog: number,
): AsyncIterable<Uint8Array> {
  const decoder = createZstdDecompress({
    params: { [constants.ZSTD_d_windowLogMax]: maxWindowLog },
    chunkSize: outputChunkBytes,
  });
  // On any failure the pipeline destroys the decoder with the error, and the loop below throws it.
  const output = pipeline(Readable.from(frame, { objectMode: true }), decoder, () => undefined);
  for await (const chunk of output) yield chunk as Buffer;
}
