import { randomBytes } from 'node:crypto';

import { NicheError, isNicheError, isRejection, messageOf } from '../../errors.ts';
import { parseHash } from '../../nix/hash.ts';
import { encodeBase32 } from '../../nix/base32.ts';
import type { PathInfo } from '../../nix/path-info.ts';
import type { Bucket } from '../../storage/bucket.ts';
import { compressFrame, compressSmall, maxSmallBytes } from '../zstd/frames.ts';
import { compressZstd, decompressZstd, frameBytes } from '../zstd/stream.ts';
import type { CacheConfig, Compression } from '../config.ts';
import { createFileHasher, hashFile } from './file-hash.ts';
import type { FileFacts } from './file-hash.ts';
import { cacheControlOf, contentTypeOf, narPrefix } from '../layout.ts';
import { createNarCheck } from './check.ts';
import type { NarCheck, NarFacts } from './check.ts';
import { writeObject } from '../objects.ts';

/** A NAR of the cache, as a narinfo names it. */
export interface StoredNar {
  /** Its key. */
  readonly url: string;
  readonly compression: Compression['kind'];
  /** Of the stored bytes, `sha256:<base32>`. */
  readonly fileHash: string;
  /** Of the stored bytes. */
  readonly fileSize: number;
}

/** A NAR that was checked against a claim. */
export interface CheckedNar extends StoredNar, NarFacts {
  /** Whether it was not there before: so nobody has published this path, or got this far. */
  readonly isNew: boolean;
}

export interface NarStore {
  /**
   * Checks the NAR that `open` yields against the claim and stores it, in one pass; nothing becomes
   * visible before every check has passed. A NAR that is there already is checked in its stead.
   *
   * @throws the rejections of {@link createNarCheck}, and what the bucket throws
   */
  storeNar(claim: PathInfo, open: () => AsyncIterable<Uint8Array>): Promise<CheckedNar>;
  /** Checks a NAR that is stored, against the path's claim. */
  checkNar(claim: PathInfo, url: string): Promise<NarFacts>;
}

/** The ending of a NAR's key, by compression. */
const narSuffix: Readonly<Record<Compression['kind'], string>> = {
  zstd: '.nar.zst',
  none: '.nar',
};

export interface NarStoreOptions {
  readonly bucket: Bucket;
  readonly config: Pick<CacheConfig, 'storeDir' | 'compression' | 'limits'>;
  /** Frames compressed at once. */
  readonly parallelism: number;
}

export function createNarStore({ bucket, config, parallelism }: NarStoreOptions): NarStore {
  const { compression, storeDir, limits } = config;
  const checkOptions = { storeDir, unclaimed: limits.unclaimed };

  function keyOf(claim: PathInfo, distinct: boolean): string {
    const suffix = distinct ? `-${randomBytes(8).toString('hex')}` : '';
    const name = encodeBase32(parseHash(claim.narHash).digest);
    return `${narPrefix}${name}${suffix}${narSuffix[compression.kind]}`;
  }

  function encode(source: AsyncIterable<Uint8Array>, claim: PathInfo): AsyncIterable<Uint8Array> {
    if (compression.kind === 'none') return source;
    return compressZstd(source, {
      level: compression.level,
      parallelism,
      totalBytes: claim.narSize,
    });
  }

  /** @returns null when there is something under the key already */
  async function write(
    claim: PathInfo,
    key: string,
    open: () => AsyncIterable<Uint8Array>,
  ): Promise<CheckedNar | null> {
    const check = createNarCheck(claim, checkOptions);
    const writeIt = claim.narSize <= frameBytes ? writeWhole : writeStream;
    const file = await writeIt(open(), claim, key, check);
    if (!file) return null;
    return { url: key, compression: compression.kind, isNew: true, ...file, ...check.facts() };
  }

  /** What is small goes through each step as a whole: one request, and none when a check fails. */
  async function writeWhole(
    source: AsyncIterable<Uint8Array>,
    claim: PathInfo,
    key: string,
    check: NarCheck,
  ): Promise<FileFacts | null> {
    const nar = await readWhole(source, claim.narSize);
    check.checkWhole(nar);
    const stored = await encodeWhole(nar);
    const outcome = await writeObject(bucket, key, stored, { ifAbsent: true });
    return outcome === 'exists' ? null : hashFile(stored);
  }

  async function encodeWhole(contents: Uint8Array): Promise<Uint8Array> {
    if (compression.kind === 'none') return contents;
    const { level } = compression;
    return contents.length <= maxSmallBytes
      ? compressSmall(contents, level)
      : compressFrame(contents, level);
  }

  async function writeStream(
    nar: AsyncIterable<Uint8Array>,
    claim: PathInfo,
    key: string,
    check: NarCheck,
  ): Promise<FileFacts | null> {
    const file = createFileHasher();
    const sink = await bucket.upload(key, {
      contentType: contentTypeOf(key),
      cacheControl: cacheControlOf(key),
    });
    try {
      for await (const chunk of file.hashStream(encode(check.checkStream(nar), claim))) {
        await sink.write(chunk);
      }
    } catch (error) {
      await sink.abort();
      throw error;
    }
    return (await sink.commit({ ifAbsent: true })) === 'exists' ? null : file.facts();
  }

  /** The facts of the object under `key`; null when there is none. */
  async function inspect(claim: PathInfo, key: string): Promise<CheckedNar | null> {
    const object = await bucket.get(key);
    if (!object) return null;
    const file = createFileHasher();
    const stored = file.hashStream(object.body);
    const kind = key.endsWith(narSuffix.zstd) ? 'zstd' : 'none';
    const raw = kind === 'zstd' ? decompressZstd(stored) : stored;
    const check = createNarCheck(claim, checkOptions);
    try {
      await drain(check.checkStream(raw));
    } catch (cause) {
      if (isNicheError(cause) && !isRejection(cause)) throw cause;
      throw new NicheError(
        'storage-integrity',
        `${key} in ${bucket.url} is not the NAR of ${claim.path}: ${messageOf(cause)}`,
        { cause },
      );
    }
    return { url: key, compression: kind, isNew: false, ...file.facts(), ...check.facts() };
  }

  return {
    async storeNar(claim, open) {
      const shared = keyOf(claim, !bucket.capabilities.conditionalComplete);
      // A large NAR that is there already is worth a request more to find out before compressing.
      const isThere = claim.narSize > frameBytes && (await bucket.head(shared)) !== null;
      if (!isThere) {
        const written = await write(claim, shared, open);
        if (written) return written;
      }
      try {
        const present = await inspect(claim, shared);
        if (present) return present;
      } catch (error) {
        if (!isNicheError(error, 'storage-integrity')) throw error;
      }
      // What is under the shared key is not this NAR, or does not fit this claim: the staged bytes
      // decide, and if they are good they go beside it, since nobody ever deletes a NAR.
      const beside = await write(claim, keyOf(claim, true), open);
      if (beside) return beside;
      throw new NicheError(
        'storage-unavailable',
        `could not store the NAR of ${claim.path} in ${bucket.url}: two random keys were the same`,
      );
    },
    async checkNar(claim, url) {
      const present = await inspect(claim, url);
      if (present) return present;
      throw new NicheError(
        'storage-integrity',
        `${url} of ${claim.path} is missing in ${bucket.url}`,
      );
    },
  };
}

/** A NAR of `size` bytes; one that is longer not much further than that, as its check refuses it. */
async function readWhole(source: AsyncIterable<Uint8Array>, size: number): Promise<Uint8Array> {
  let whole: Uint8Array | undefined;
  let filled = 0;
  for await (const chunk of source) {
    // What is lent is over with the next; of several NARs that lie together each is one chunk, and kept.
    if (chunk.length === size && filled === 0) return chunk;
    whole ??= new Uint8Array(size);
    if (chunk.length > size - filled) return Buffer.concat([whole.subarray(0, filled), chunk]);
    whole.set(chunk, filled);
    filled += chunk.length;
  }
  return whole?.subarray(0, filled) ?? new Uint8Array();
}

async function drain(source: AsyncIterable<Uint8Array>): Promise<void> {
  const chunks = source[Symbol.asyncIterator]();
  while ((await chunks.next()).done !== true);
}
