import { NicheError } from '../errors.ts';
import { fingerprint } from '../nix/fingerprint.ts';
import { verifyFingerprintAsync } from '../nix/keys.ts';
import type { PublicKey } from '../nix/keys.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { storeHash } from '../nix/store-path.ts';
import type { ObjectReader } from '../storage/bucket.ts';
import type { CacheConfig } from './config.ts';
import { narInfoKey } from './layout.ts';
import { isUnreadableNarInfo, readNarInfo } from './read-narinfo.ts';

/** The narinfo of a path, and whether a key of the cache signed it. */
export interface SignedNarInfo {
  /** Null when it is missing or damaged. */
  readonly info: NarInfo | null;
  /** Why it does not prove that the path is published; null when it does. */
  readonly problem: string | null;
}

/**
 * Reads the narinfo of `path` with one GET and verifies its signatures. A receipt proves nothing: on
 * several providers other uploaders can write it.
 *
 * @param cache the public root in its storage: a CDN may have cached that the narinfo was missing
 * @throws NicheError `storage-…` when it cannot be read
 */
export async function readSignedNarInfo(
  cache: ObjectReader,
  path: string,
  { storeDir }: Pick<CacheConfig, 'storeDir'>,
  publicKeys: readonly PublicKey[],
): Promise<SignedNarInfo> {
  const hash = storeHash(path);
  const where = `${narInfoKey(hash)} in ${cache.url}`;
  const read = await readNarInfo(cache, hash, storeDir).catch((error: unknown): NicheError => {
    if (isUnreadableNarInfo(error)) return error;
    throw error;
  });
  if (read === null) return { info: null, problem: `${where} is missing` };
  if (read instanceof NicheError) {
    return { info: null, problem: `${where} is damaged: ${read.message}` };
  }
  if (read.path !== path) return { info: read, problem: `${where} is the narinfo of ${read.path}` };
  const text = fingerprint(read, storeDir);
  for (const signature of read.signatures) {
    if (await verifyFingerprintAsync(text, signature, publicKeys)) {
      return { info: read, problem: null };
    }
  }
  return { info: read, problem: `${where} has no valid signature by a trusted key of the cache` };
}
