import { NicheError, isNicheError, messageOf } from '../../errors.ts';
import type { Bucket } from '../../storage/bucket.ts';
import { decompressZstd } from '../zstd/stream.ts';
import { stagedNarsKey } from '../layout.ts';
import type { BatchId } from '../layout.ts';
import type { Manifest } from '../manifest.ts';

/**
 * Opens the raw NAR of the batch's path number `index`. It may turn out shorter than the manifest
 * says, never longer. Its chunks are lent: done with when the next is asked for.
 *
 * @throws NicheError `missing-nar` when the object is not there, `malformed-nar` when it is not zstd
 *   though the manifest says so, and what the bucket throws
 */
export type OpenStagedNar = (index: number) => AsyncIterable<Uint8Array>;

/**
 * The staged NARs of a batch. A manifest allows either several that are small together, which are
 * read at once and kept, or a single one, which is streamed.
 */
export function openStagedNars(bucket: Bucket, id: BatchId, manifest: Manifest): OpenStagedNar {
  const sizes = manifest.paths.map(({ narSize }) => narSize);
  const total = sizes.reduce((sum, size) => sum + size, 0);
  const key = stagedNarsKey(id, manifest.encoding);

  async function* stream(): AsyncIterable<Uint8Array> {
    const isRaw = manifest.encoding === 'none';
    // Of a compressed one nothing is lent: a decoder keeps chunks for a while.
    const object = await bucket.get(
      key,
      isRaw ? { range: { start: 0, end: total }, lend: true } : undefined,
    );
    if (!object) {
      throw new NicheError('missing-nar', `the manifest's NARs were not staged: ${key} is missing`);
    }
    const raw = isRaw ? object.body : decoded(object.body, key);
    let left = total;
    for await (const chunk of raw) {
      yield chunk.subarray(0, left);
      left -= chunk.length;
      if (left <= 0) return;
    }
  }

  /** Into one piece of memory: chunks that are kept until they are joined would be collected all the later. */
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
  return async function* section(index) {
    all ??= readAll();
    const start = sizes.slice(0, index).reduce((sum, size) => sum + size, 0);
    const bytes = (await all).subarray(start, start + (sizes[index] ?? 0));
    if (bytes.length > 0) yield bytes;
  };
}

async function* decoded(source: AsyncIterable<Uint8Array>, key: string): AsyncIterable<Uint8Array> {
  try {
    yield* decompressZstd(source);
  } catch (cause) {
    if (isNicheError(cause)) throw cause;
    throw new NicheError('malformed-nar', `${key} is not zstd: ${messageOf(cause)}`, { cause });
  }
}
