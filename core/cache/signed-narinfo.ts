import { fingerprint } from '../nix/fingerprint.ts';
import { verifyFingerprint, verifyFingerprintAsync } from '../nix/keys.ts';
import type { PublicKey } from '../nix/keys.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import type { PathInfo } from '../nix/path-info.ts';
import type { ObjectReader } from '../storage/bucket.ts';
import { narInfoKey } from './layout.ts';
import { isUnreadableNarInfo, readNarInfo } from './read-narinfo.ts';

/** What a cache has under a store hash. Only a signed narinfo proves that a path is published. */
export type SignedNarInfo =
  | { readonly kind: 'signed'; readonly info: NarInfo }
  /** No key of the cache signed it. Anyone who can write to the bucket may have put it there. */
  | { readonly kind: 'unsigned'; readonly info: NarInfo; readonly problem: string }
  | { readonly kind: 'damaged' | 'missing'; readonly problem: string };

/**
 * Reads the narinfo of a store hash with one GET and verifies its signatures. It may be of another path
 * with the same hash.
 *
 * @param cache the public root in its storage: a CDN may have cached that the narinfo was missing
 * @param publicKeys the keys of the cache, or the ones that the user pinned
 * @throws NicheError `storage-…` when it cannot be read
 */
export async function readSignedNarInfo(
  cache: ObjectReader,
  hash: string,
  storeDir: string,
  publicKeys: readonly PublicKey[],
): Promise<SignedNarInfo> {
  const where = `${narInfoKey(hash)} in ${cache.url}`;
  let info: NarInfo | null;
  try {
    info = await readNarInfo(cache, hash, storeDir);
  } catch (error) {
    if (!isUnreadableNarInfo(error)) throw error;
    return { kind: 'damaged', problem: `${where} is damaged: ${error.message}` };
  }
  if (info === null) return { kind: 'missing', problem: `${where} is missing` };
  if (await isSignedBy(info, storeDir, publicKeys)) return { kind: 'signed', info };
  const problem = `${where} has no valid signature by a trusted key of the cache`;
  return { kind: 'unsigned', info, problem };
}

/** Returns whether at least one signature of the path verifies under one of the keys. */
export async function isSignedBy(
  info: PathInfo,
  storeDir: string,
  publicKeys: readonly PublicKey[],
): Promise<boolean> {
  const text = fingerprint(info, storeDir);
  for (const signature of info.signatures) {
    if (await verifyFingerprintAsync(text, signature, publicKeys)) return true;
  }
  return false;
}

/** Returns the signatures of the path that verify under one of the keys. */
export function signaturesBy(
  info: PathInfo,
  storeDir: string,
  publicKeys: readonly PublicKey[],
): string[] {
  if (info.signatures.length === 0 || publicKeys.length === 0) return [];
  const text = fingerprint(info, storeDir);
  return info.signatures.filter((signature) => verifyFingerprint(text, signature, publicKeys));
}
