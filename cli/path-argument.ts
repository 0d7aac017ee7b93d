import { NicheError, isNicheError, quote } from '../core/errors.ts';
import { parseStoreBaseName, parseStorePath } from '../core/nix/store-path.ts';

/** A path of a cache, as people name it. */
export interface PathArgument {
  /** What its narinfo is found by. */
  readonly hash: string;
  /** The full store path; null when only the hash was given. */
  readonly path: string | null;
}

/**
 * Reads a full store path, its last component, or only its hash.
 *
 * @throws NicheError `usage`
 */
export function parsePathArgument(text: string, storeDir: string): PathArgument {
  try {
    const isFull = text.startsWith('/');
    // A hash alone becomes the base name of a path that only the grammar sees.
    const isHash = /^[0-9a-z]{32}$/.test(text);
    const parsed = isFull
      ? parseStorePath(text, storeDir)
      : parseStoreBaseName(isHash ? `${text}-x` : text, storeDir);
    return { hash: parsed.hash, path: isHash ? null : parsed.path };
  } catch (cause) {
    if (!isNicheError(cause)) throw cause;
    throw new NicheError(
      'usage',
      `expected a path in ${storeDir} or the hash of one, got ${quote(text)}`,
      { cause },
    );
  }
}
