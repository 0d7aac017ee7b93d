import { randomBytes } from 'node:crypto';

import { NicheError, isNicheError, isRejection, messageOf } from '../../errors.ts';
import type { PathInfo } from '../../nix/path-info.ts';
import type { Bucket } from '../../storage/bucket.ts';
import { drain } from '../../util/streams.ts';
import { compressFrame, compressSmall, maxSmallBytes } from '../zstd/frames.ts';
import { frameBytes } from '../zstd/frames.ts';
import { compressZstd, decompressZstd } from '../zstd/stream.ts';
import type { CacheConfig, Compression } from '../config.ts';
import { createFileHasher, hashFile } from './file-hash.ts';
import type { FileFacts } from './file-hash.ts';
import { cacheControlOf, contentTypeOf, narHashPrefix } from '../layout.ts';
import { createNarCheck } from './check.ts';
import type { NarCheck, NarFacts } from './check.ts';
import { parseNarClaim } from './claim.ts';
import type { NarClaim } from './claim.ts';
import { writeObject } from '../objects.ts';

/** A stored NAR, as a narinfo describes it. */
export interface StoredNar {
  /** The key of the object. */
  readonly url: string;
  readonly compression: Compression['kind'];
  /** Hash of the stored bytes, `sha256:<base32>`. */
  readonly fileHash: string;
  /** Size of the stored bytes. */
  readonly fileSize: number;
}

/** A stored NAR that was checked against a claim. */
export interface CheckedNar extends StoredNar, NarFacts {
  /** Whether this call created it. If so, nobody has published the path yet. */
  readonly isNew: boolean;
}

export interface NarStore {
  /**
   * Checks the NAR from `open` against a claim and stores it, in one pass. Nothing becomes visible
   * before every check has passed. If a NAR exists under the key, that one is checked instead.
   *
   * @throws NicheError the rejections of {@link parseNarClaim} and {@link createNarCheck}; `storage-…`
   */
  storeNar(info: PathInfo, open: () => AsyncIterable<Uint8Array>): Promise<CheckedNar>;
  /**
   * Checks a stored NAR against a claim.
   *
   * @throws NicheError `storage-integrity` when it is missing or does not match; `storage-…`
   */
  checkNar(info: PathInfo, url: string): Promise<CheckedNar>;
}

/** The ending of a NAR's key, by compression. */
const narSuffix: Readonly<Record<Compression['kind'], string>> = {
  zstd: '.nar.zst',
  none: '.nar',
};

/**
 * Returns whether `key` is one that a NAR with this hash is stored under.
 *
 * @param narHash in canonical form, `sha256:<base32>`
 */
export function isNarKeyOf(key: string, narHash: string): boolean {
  const prefix = narHashPrefix(narHash);
  const suffix = key.slice(prefix.length);
  return key.startsWith(prefix) && /^(?:-[0-9a-f]{16})?\.nar(?:\.zst)?$/.test(suffix);
}

export interface NarStoreOptions {
  readonly bucket: Bucket;
  readonly config: Pick<CacheConfig, 'storeDir' | 'compression' | 'listings' | 'limits'>;
  /** zstd frames to compress at once. */
  readonly parallelism: number;
}

export function createNarStore({ bucket, config, parallelism }: NarStoreOptions): NarStore {
  const { compression, storeDir, limits } = config;
  const checkOptions = { unclaimed: limits.unclaimed, listing: config.listings !== false };

  function narKey({ info }: NarClaim, distinct: boolean): string {
    const suffix = distinct ? `-${randomBytes(8).toString('hex')}` : '';
    return `${narHashPrefix(info.narHash)}${suffix}${narSuffix[compression.kind]}`;
  }

  function encode(
    source: AsyncIterable<Uint8Array>,
    totalBytes: number,
  ): AsyncIterable<Uint8Array> {
    if (compression.kind === 'none') return source;
    return compressZstd(source, { level: compression.level, parallelism, totalBytes });
  }

  /** @returns null when an object exists under the key */
  async function write(
    claim: NarClaim,
    key: string,
    open: () => AsyncIterable<Uint8Array>,
  ): Promise<CheckedNar | null> {
    const check = await createNarCheck(claim, checkOptions);
    const { narSize } = claim.info;
    const writeNar = narSize <= frameBytes ? writeWhole : writeStream;
    const file = await writeNar(open(), narSize, key, check);
    if (!file) return null;
    return { url: key, compression: compression.kind, isNew: true, ...file, ...check.facts() };
  }

  /** Handles a small NAR as a whole: with one request, and none when a check fails. */
  async function writeWhole(
    source: AsyncIterable<Uint8Array>,
    narSize: number,
    key: string,
    check: NarCheck,
  ): Promise<FileFacts | null> {
    const nar = await readWhole(source, narSize);
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
    narSize: number,
    key: string,
    check: NarCheck,
  ): Promise<FileFacts | null> {
    const file = await createFileHasher();
    const sink = await bucket.upload(key, {
      contentType: contentTypeOf(key),
      cacheControl: cacheControlOf(key),
    });
    try {
      for await (const chunk of file.hashStream(encode(check.checkStream(nar), narSize))) {
        await sink.write(chunk);
      }
    } catch (error) {
      await sink.abort();
      throw error;
    }
    return (await sink.commit({ ifAbsent: true })) === 'exists' ? null : file.facts();
  }

  /**
   * Checks the object under `key`.
   *
   * @returns null when it is missing
   * @throws NicheError `storage-integrity` when it is not the claimed NAR; `storage-…`
   */
  async function inspect(claim: NarClaim, key: string): Promise<CheckedNar | null> {
    const object = await bucket.get(key);
    if (!object) return null;
    const file = await createFileHasher();
    const stored = file.hashStream(object.body);
    const kind = key.endsWith(narSuffix.zstd) ? 'zstd' : 'none';
    const raw = kind === 'zstd' ? decompressZstd(stored) : stored;
    const check = await createNarCheck(claim, checkOptions);
    try {
      await drain(check.checkStream(raw));
    } catch (cause) {
      if (isNicheError(cause) && !isRejection(cause)) throw cause;
      throw new NicheError(
        'storage-integrity',
        `${key} in ${bucket.url} is not the NAR of ${claim.info.path}: ${messageOf(cause)}`,
        { cause },
      );
    }
    return { url: key, compression: kind, isNew: false, ...file.facts(), ...check.facts() };
  }

  return {
    async storeNar(info, open) {
      const claim = parseNarClaim(info, storeDir);
      const shared = narKey(claim, !bucket.capabilities.conditionalComplete);
      // For a large NAR, one more request to find an existing one is cheaper than compressing it.
      const exists = info.narSize > frameBytes && (await bucket.head(shared)) !== null;
      if (!exists) {
        const written = await write(claim, shared, open);
        if (written) return written;
      }
      try {
        const present = await inspect(claim, shared);
        if (present) return present;
      } catch (error) {
        if (!isNicheError(error, 'storage-integrity')) throw error;
      }
      // The object under the shared key does not match this claim. If the staged NAR does, it is
      // stored under a key of its own, because a published NAR is never deleted.
      const separate = await write(claim, narKey(claim, true), open);
      if (separate) return separate;
      throw new NicheError(
        'storage-unavailable',
        `cannot store the NAR of ${info.path} in ${bucket.url}: a random key exists already`,
      );
    },
    async checkNar(info, url) {
      const present = await inspect(parseNarClaim(info, storeDir), url);
      if (present) return present;
      throw new NicheError(
        'storage-integrity',
        `${url} of ${info.path} is missing in ${bucket.url}`,
      );
    },
  };
}

/** Reads a NAR of `size` bytes. Stops soon after `size`: the check refuses a longer one. */
async function readWhole(source: AsyncIterable<Uint8Array>, size: number): Promise<Uint8Array> {
  let whole: Uint8Array | undefined;
  let filled = 0;
  for await (const chunk of source) {
    // A chunk may be reused after this iteration, except one that is a whole NAR of a batch.
    if (chunk.length === size && filled === 0) return chunk;
    whole ??= new Uint8Array(size);
    if (chunk.length > size - filled) return Buffer.concat([whole.subarray(0, filled), chunk]);
    whole.set(chunk, filled);
    filled += chunk.length;
  }
  return whole?.subarray(0, filled) ?? new Uint8Array();
}
