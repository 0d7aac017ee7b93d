import { NicheError, isNicheError, messageOf } from '../../errors.ts';
import { freeExpandedBytes, maxStagedExpansion, maxStagedWindowLog } from '../../limits.ts';
import type { Bucket } from '../../storage/bucket.ts';
import { stagedNarsKey } from '../layout.ts';
import type { BatchId } from '../layout.ts';
import type { Manifest } from '../manifest.ts';
import { decompressZstd } from '../zstd/stream.ts';

/**
 * Opens the raw NAR of the batch's path number `index`. The NAR may be shorter than the manifest
 * claims, never longer. A chunk is valid only until the next one is requested.
 *
 * @throws NicheError `missing-nar` when the object is missing, `malformed-nar` when it is not zstd
 *   although the manifest claims so, `failed` when it can never be read, and the bucket's errors
 */
export type OpenStagedNar = (index: number) => AsyncIterable<Uint8Array>;

/**
 * Opens the staged NARs of a batch. A manifest has either one NAR, which is streamed, or several that
 * are small together, which are read once and kept in memory.
 */
export function openStagedNars(bucket: Bucket, id: BatchId, manifest: Manifest): OpenStagedNar {
  const sizes = manifest.paths.map(({ narSize }) => narSize);
  const total = sizes.reduce((sum, size) => sum + size, 0);
  const key = stagedNarsKey(id, manifest.encoding);

  async function* stream(): AsyncIterable<Uint8Array> {
    const isRaw = manifest.encoding === 'none';
    const range = isRaw ? { start: 0, end: total } : undefined;
    const object = await bucket.get(key, { range, lend: true });
    if (!object) {
      throw new NicheError('missing-nar', `reading the staged NARs: ${key} is missing`);
    }
    const raw = isRaw ? object.body : decompress(object.body, key, maxCompressedBytes(total));
    let left = total;
    for await (const chunk of raw) {
      yield chunk.subarray(0, left);
      left -= chunk.length;
      if (left <= 0) return;
    }
  }

  /** Reads into one buffer: many chunks that are kept until they are joined are freed late. */
  async function readAll(): Promise<Uint8Array> {
    const nars = new Uint8Array(total);
    let filled = 0;
    for await (const chunk of stream()) {
      nars.set(chunk, filled);
      filled += chunk.length;
    }
    return nars.subarray(0, filled);
  }

  if (sizes.length === 1) return stream;
  let all: Promise<Uint8Array> | undefined;
  return async function* openSection(index) {
    all ??= readAll();
    const start = sizes.slice(0, index).reduce((sum, size) => sum + size, 0);
    const bytes = (await all).subarray(start, start + (sizes[index] ?? 0));
    if (bytes.length > 0) yield bytes;
  };
}

async function* decompress(
  source: AsyncIterable<Uint8Array>,
  key: string,
  maxBytes: number,
): AsyncIterable<Uint8Array> {
  let staged = 0;
  let raw = 0;
  async function* counted(): AsyncIterable<Uint8Array> {
    for await (const chunk of source) {
      staged += chunk.length;
      // They may decompress to nothing.
      if (staged > maxBytes) throw new Error(`expected at most ${maxBytes} bytes for these NARs`);
      yield chunk;
    }
  }
  try {
    for await (const chunk of decompressZstd(counted(), maxStagedWindowLog)) {
      raw += chunk.length;
      if (raw > freeExpandedBytes + maxStagedExpansion * staged) {
        throw new Error(`expected at most ${maxStagedExpansion} times the compressed bytes`);
      }
      yield chunk;
    }
  } catch (cause) {
    if (isNicheError(cause)) throw cause;
    throw new NicheError('malformed-nar', `decompressing ${key}: ${messageOf(cause)}`, { cause });
  }
}

/** Returns a limit for the compressed form of `total` bytes, in bytes. zstd itself adds far less. */
function maxCompressedBytes(total: number): number {
  return total + Math.ceil(total / 64) + 1024 * 1024;
}
