import type { Writable } from 'node:stream';
import { promisify } from 'node:util';
import { constants, createZstdDecompress } from 'node:zlib';

import { toError } from '../../errors.ts';
import { maxBatchPaths, maxZstdWindowLog } from '../../limits.ts';
import { createFrameParser } from './frame-parser.ts';
import type { FrameParser } from './frame-parser.ts';
import { frameBytes, returnFrameBuffer, takeFrameBuffer } from './frames.ts';
import type { FrameBuffer } from './frames.ts';

const outputChunkBytes = 1024 * 1024;

/**
 * Each frame and each block costs time, also an empty one, so an attacker must not get away with many
 * small ones. Each of the NARs in a batch may have a frame, and some more.
 */
const maxSmallFrames = maxBatchPaths + 64;
const maxSmallBlocks = 1024 * 1024;

/** Frames with less contents, in bytes, are small. */
const minFrameBytes = 64 * 1024;

/** Blocks with less contents, in bytes, are small. Compressors make blocks of some KiB and more. */
const minBlockBytes = 256;

/**
 * Compresses a stream as zstd frames of {@link frameBytes}, `parallelism` at a time in workers. Holds
 * at most `parallelism + 2` frame buffers: one is being filled and one holds a finished frame, so
 * that no worker waits for the consumer. Fewer, when other streams hold many.
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
      returnFrameBuffer(oldest.buffer, true);
    }
  }

  try {
    for await (const chunk of source) {
      for (let offset = 0; offset < chunk.length;) {
        buffer ??= takeFrameBuffer(capacity, running.length);
        if (buffer === null) {
          yield* finished(running.length - 1);
          continue;
        }
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
    // The consumer may still use the frames of these.
    for (const { buffer: used } of running) returnFrameBuffer(used, false);
    if (buffer !== null) returnFrameBuffer(buffer, true);
  }
}

/**
 * Decompresses concatenated zstd frames. One decoder decodes all: a decoder holds a window of several
 * MiB, and allocating one for each frame would fragment the memory. It gets the frames in separate
 * pieces, because node:zlib silently drops the bytes that follow the end of a frame within a piece.
 *
 * @param source its chunks may be lent: each is decoded before the next is requested
 * @param maxWindowLog the largest window that is decoded, as log2 of bytes
 * @returns chunks, each valid only until the next is requested: their memory is freed
 * @throws Error when the data is damaged or truncated: zlib's own error, or {@link createFrameParser}'s
 */
export async function* decompressZstd(
  source: AsyncIterable<Uint8Array>,
  maxWindowLog = maxZstdWindowLog,
): AsyncIterable<Uint8Array> {
  let bytes = 0;

  /** Yields the bytes of the source, cut at the ends of frames. */
  async function* cutFrames(): AsyncGenerator<Uint8Array> {
    let frames = 0;
    let blocks = 0;
    let parser: FrameParser | null = null;
    for await (const chunk of source) {
      for (let at = 0; at < chunk.length;) {
        parser ??= createFrameParser();
        const start = at;
        const blocksBefore = parser.blocks();
        at += parser.take(chunk.subarray(at));
        blocks += parser.blocks() - blocksBefore;
        if (blocks > maxSmallBlocks + bytes / minBlockBytes) {
          throw new Error('too many small zstd blocks');
        }
        if (parser.isDone()) {
          parser = null;
          frames += 1;
        }
        if (frames > maxSmallFrames + bytes / minFrameBytes) {
          throw new Error('too many small zstd frames');
        }
        yield chunk.subarray(start, at);
      }
    }
    if (parser) throw new Error('the last zstd frame is truncated');
  }

  const decoder = createZstdDecompress({
    params: { [constants.ZSTD_d_windowLogMax]: maxWindowLog },
    chunkSize: outputChunkBytes,
    // The parser detects truncation. The decoder would refuse empty input.
    finishFlush: constants.ZSTD_e_continue,
  });
  const pieces = cutFrames();
  void writeAll(pieces, decoder);
  try {
    for await (const chunk of decoder as AsyncIterable<Buffer<ArrayBuffer>>) {
      bytes += chunk.length;
      yield chunk;
      freeIfFull(chunk);
    }
  } finally {
    decoder.destroy();
    await pieces.return(undefined);
  }
}

/**
 * Writes the chunks, each after the last one was processed. A failure destroys `target` with it. Once
 * `target` is destroyed, this may never return.
 */
async function writeAll(source: AsyncIterable<Uint8Array>, target: Writable): Promise<void> {
  const write = promisify((chunk: Uint8Array, done: (error?: Error | null) => void) =>
    target.write(chunk, done),
  );
  try {
    for await (const chunk of source) await write(chunk);
    target.end();
  } catch (error) {
    target.destroy(toError(error));
  }
}

/**
 * Frees a decoder's output buffer once its last byte was used. The garbage collector would free it
 * late, because the object that refers to the buffer is small.
 */
function freeIfFull({ buffer, byteOffset, byteLength }: Buffer<ArrayBuffer>): void {
  // The decoder goes on with a buffer that is not full.
  if (byteOffset + byteLength === outputChunkBytes) buffer.transfer(0);
}
