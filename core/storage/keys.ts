import { NicheError, quote } from '../errors.ts';

/** Every byte that niche's layout can produce: store path names, Nix hashes, and `/`. */
const keyGrammar = /^[A-Za-z0-9+\-._?=]+(?:\/[A-Za-z0-9+\-._?=]+)*$/;

/** The longest key that every supported storage takes, in bytes. */
const maxKeyBytes = 1024;

/**
 * Refuses a key that is not made of plain segments, before any storage sees it.
 *
 * @throws NicheError `invalid-key`
 */
export function assertKey(key: string): void {
  const hasDotSegment = key.split('/').some((segment) => segment === '.' || segment === '..');
  if (!keyGrammar.test(key) || key.length > maxKeyBytes || hasDotSegment) {
    throw new NicheError(
      'invalid-key',
      `refusing the object key ${quote(key)}: expected up to ${maxKeyBytes} characters of A-Z a-z 0-9 + - . _ ? = in segments parted by "/"`,
    );
  }
}
