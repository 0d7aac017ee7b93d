import { readNarInfoOrNull } from '../../core/cache/read-narinfo.ts';
import { blockedKey } from '../../core/cache/layout.ts';
import type { OpenCache } from '../../core/cache/open.ts';
import { readRecord } from '../../core/cache/withdraw/records.ts';
import { NicheError, isNicheError } from '../../core/errors.ts';
import { canonicalNarHash } from '../../core/nix/hash.ts';
import { parsePathArgument } from '../cache/path-argument.ts';

/** A path or contents to block, as given on the command line. */
export type BlockArgument =
  | { readonly kind: 'path'; readonly hash: string; readonly path: string | null }
  | { readonly kind: 'contents'; readonly narHash: string };

/**
 * Reads a store path, a link to one, its hash, or a NAR hash such as `sha256:…`.
 *
 * @throws NicheError `usage`
 */
export function parseBlockArgument(text: string, storeDir: string, cwd: string): BlockArgument {
  if (!/^sha256[:-]/.test(text)) {
    return { kind: 'path', ...parsePathArgument(text, storeDir, cwd) };
  }
  try {
    return { kind: 'contents', narHash: canonicalNarHash(text) };
  } catch (cause) {
    if (!isNicheError(cause)) throw cause;
    throw new NicheError('usage', `not a NAR hash: ${cause.message}`, { cause });
  }
}

/** What is known of a path: by its narinfo, or by the record of its withdrawal. */
export interface KnownContents {
  readonly path?: string | undefined;
  readonly narHash?: string | undefined;
  readonly deriver?: string | null | undefined;
}

/** Returns the contents of a path that is published, or was when it was withdrawn. */
export async function findContents(cache: OpenCache, hash: string): Promise<KnownContents> {
  const info = await readNarInfoOrNull(cache.public, hash, cache.config.storeDir);
  if (info) {
    const { path, narHash, deriver } = info;
    return { path, narHash, deriver };
  }
  try {
    const record = await readRecord(cache.private, blockedKey(hash));
    return record ? { path: record.path, narHash: record.narHash, deriver: record.deriver } : {};
  } catch (error) {
    // A damaged record still withdraws its path.
    if (isNicheError(error, 'malformed-config')) return {};
    throw error;
  }
}
