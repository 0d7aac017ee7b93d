import { NicheError, isNicheError, quote } from '../../core/errors.ts';
import { parseStoreBaseName, parseStorePath } from '../../core/nix/store-path.ts';

/** A path of a cache, as given on the command line. */
interface PathArgument {
  /** The hash part, which its narinfo is stored under. */
  readonly hash: string;
  /** The full store path, or null when only the hash was given. */
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
    // A hash alone gets a made-up name, so that the same parser checks it.
    const isHash = /^[0-9a-z]{32}$/.test(text);
    const parsed = isFull
      ? parseStorePath(text, storeDir)
      : parseStoreBaseName(isHash ? `${text}-x` : text, storeDir);
    return { hash: parsed.hash, path: isHash ? null : parsed.path };
  } catch (cause) {
    if (!isNicheError(cause)) throw cause;
    throw new NicheError(
      'usage',
      `expected a path in "${storeDir}" or its hash, got ${quote(text)}`,
      { cause },
    );
  }
}
