import { isNicheError } from '../errors.ts';
import type { NicheError } from '../errors.ts';
import { maxNarInfoBytes } from '../limits.ts';
import { parseNarInfo } from '../nix/narinfo.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import type { PathInfo } from '../nix/path-info.ts';
import type { ObjectReader } from '../storage/bucket.ts';
import { narInfoKey } from './layout.ts';
import { readText } from './objects.ts';

/**
 * Reads the narinfo of a store hash.
 *
 * @returns null when it is missing
 * @throws NicheError `malformed-narinfo` or `oversized` when it is damaged (see
 *   {@link isUnreadableNarInfo}); `storage-…` when it cannot be read
 */
export async function readNarInfo(
  cache: ObjectReader,
  hash: string,
  storeDir: string,
): Promise<NarInfo | null> {
  const text = await readText(cache, narInfoKey(hash), maxNarInfoBytes);
  return text === null ? null : parseNarInfo(text, storeDir);
}

/** Does the same as {@link readNarInfo}, and treats a damaged narinfo as missing. */
export async function readNarInfoOrNull(
  cache: ObjectReader,
  hash: string,
  storeDir: string,
): Promise<NarInfo | null> {
  try {
    return await readNarInfo(cache, hash, storeDir);
  } catch (error) {
    if (isUnreadableNarInfo(error)) return null;
    throw error;
  }
}

/** Returns whether `error` means that a narinfo exists and is damaged, so that no reader can use it. */
export function isUnreadableNarInfo(error: unknown): error is NicheError {
  return isNicheError(error, 'malformed-narinfo', 'oversized');
}

/** Returns whether two path infos have the same path, contents and references. */
export function isSamePath(one: PathInfo, other: PathInfo): boolean {
  return (
    one.path === other.path &&
    one.narHash === other.narHash &&
    one.narSize === other.narSize &&
    one.references.join() === other.references.join()
  );
}
