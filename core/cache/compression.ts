import { Readable, pipeline } from 'node:stream';
import { constants, createZstdCompress, createZstdDecompress } from 'node:zlib';

import { maxZstdWindowLog } from '../limits.ts';
import type { Compression } from './config.ts';

/**
 * Uncompressed bytes in a frame. Frames are independent, so they are compressed at once and a
 * reader may decompress them at once; Nix 2.35 writes frames of the same size.
 */
export const frameBytes = 16 * 1024 * 1024;

/** What zstd may need for `size` bytes that do not compress (ZSTD_COMPRESSBOUND), and a little. */
const compressBound = (size: number): number => size + (size >> 8) + 1024;

const outputChunkBytes = 1024 * 1024;

/**
 * zstd's own parameters for a level, where others suit this machine's caches better; each level
 * that is not named keeps zstd's. Level 3's two tables (768 KiB) become 384 KiB, which leave room in
 * a second-level cache of 512 KiB: an eighth less time. The larger window gives back most of
 * what the smaller tables lose, 0.4 % of size instead of 1.3 %.
 */
const tunedParameters: Readonly<Record<number, Readonly<Record<number, number>>>> = {
  3: {
    [constants.ZSTD_c_windowLog]: 23,
    [constants.ZSTD_c_hashLog]: 16,
    [constants.ZSTD_c_chainLog]: 15,
  },
};

/** Up to this size, in bytes, zstd has parameters of its own for each level, for small inputs. */
const smallInputBytes = 256 * 1024;

/**
 * Compresses `input` as one frame, on the thread pool, in one call. zlib's own `zstdCompress` feeds
 * the input and ends the frame in two, and so has zstd copy all of it through a window.
 */
function compressFrame(input: Uint8Array, level: number): Promise<Uint8Array> {
  const encoder = createZstdCompress({
    params: {
      [constants.ZSTD_c_compressionLevel]: level,
      ...(input.length > smallInputBytes ? tunedParameters[level] : {}),
    },
    pledgedSrcSize: input.length,
    // With less room for the output, zstd would copy the input after all.
    chunkSize: compressBound(input.length),
    flush: constants.ZSTD_e_end,
  });
  return new Promise((resolve, reject) => {
    encoder.once('data', (frame: Uint8Array) => {
      resolve(frame);
      // Ending it would append an empty frame.
      encoder.destroy();
    });
    encoder.once('error', reject);
    encoder.write(input);
  });
}

/**
 * Compresses a stream as zstd frames of {@link frameBytes}, `parallelism` at a time on the thread
 * pool. Holds at most `parallelism + 1` frames and their outputs.
 */
export async function* compressZstd(
  source: AsyncIterable<Uint8Array>,
  options: {
    readonly level: number;
    readonly parallelism: number;
    /** The source's length in bytes, so that what is small gets a small buffer. */
    readonly totalBytes: number;
  },
): AsyncIterable<Uint8Array> {
  const capacity = Math.max(1, Math.min(frameBytes, options.totalBytes));
  const inFlight: Promise<Uint8Array>[] = [];
  const spare: Buffer[] = [];
  let frame: Buffer | null = null;
  let filled = 0;

  const submit = (buffer: Buffer, size: number): void => {
    const compressed = compressFrame(buffer.subarray(0, size), options.level).finally(() =>
      spare.push(buffer),
    );
    // Awaited in turn below; until then a failure must not count as unhandled.
    compressed.catch(() => undefined);
    inFlight.push(compressed);
  };

  try {
    for await (const chunk of source) {
      for (let offset = 0; offset < chunk.length;) {
        frame ??= spare.pop() ?? Buffer.allocUnsafeSlow(capacity);
        const part = chunk.subarray(offset, offset + capacity - filled);
        frame.set(part, filled);
        filled += part.length;
        offset += part.length;
        if (filled < capacity) continue;
        submit(frame, filled);
        frame = null;
        filled = 0;
        const [oldest] = inFlight.splice(0, inFlight.length > options.parallelism ? 1 : 0);
        if (oldest) yield await oldest;
      }
    }
    if (frame && filled > 0) submit(frame, filled);
    for (let oldest = inFlight.shift(); oldest; oldest = inFlight.shift()) yield await oldest;
  } finally {
    await Promise.allSettled(inFlight);
  }
}

/** Decompresses concatenated zstd frames; throws zlib's own error when they are damaged. */
export async function* decompressZstd(
  source: AsyncIterable<Uint8Array>,
): AsyncIterable<Uint8Array> {
  const decoder = createZstdDecompress({
    params: { [constants.ZSTD_d_windowLogMax]: maxZstdWindowLog },
    chunkSize: outputChunkBytes,
  });
  // The pipeline destroys the decoder with whatever went wrong, and the iteration throws it.
  const output = pipeline(Readable.from(source, { objectMode: true }), decoder, () => undefined);
  for await (const chunk of output) yield chunk as Buffer;
}

/** What the compression adds to a NAR's name. */
export const narSuffix: Readonly<Record<Compression['kind'], string>> = {
  zstd: '.nar.zst',
  none: '.nar',
};
