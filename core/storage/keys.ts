import { NicheError, quote } from '../errors.ts';

/** Every byte that niche's layout can produce: store path names, Nix hashes and `/`. */
const segment = '[A-Za-z0-9+\\-._?=]+';
/** The last segment may be the id of a realisation, the only one with other characters. */
const realisationSegment = `sha256:[0-9a-f]{64}!${segment}`;
const keyGrammar = new RegExp(`^(?:${segment}/)*(?:${segment}|${realisationSegment})$`);

/** The longest key that every supported storage accepts, in bytes. */
const maxKeyBytes = 1024;

/** Whether `key` consists of plain segments and is short enough for every storage. */
export function isKey(key: string): boolean {
  return (
    keyGrammar.test(key) &&
    key.length <= maxKeyBytes &&
    !key.split('/').some((segment) => segment === '.' || segment === '..')
  );
}

/**
 * Refuses a key that does not consist of plain segments, before any storage receives it.
 *
 * @throws NicheError `invalid-key`
 */
export function assertKey(key: string): void {
  if (!isKey(key)) {
    throw new NicheError(
      'invalid-key',
      `invalid object key ${quote(key)}: expected up to ${maxKeyBytes} characters of A-Z a-z 0-9 + - . _ ? = in segments separated by "/"`,
    );
  }
}

/**
 * Refuses a listing's prefix with which no key can begin. The empty prefix means every key. A prefix
 * may end anywhere in a key.
 *
 * @throws NicheError `invalid-key`
 */
export function assertPrefix(prefix: string): void {
  const isBegun = isKey(prefix) || isKey(`${prefix}x`);
  if (!isBegun) {
    throw new NicheError(
      'invalid-key',
      `invalid prefix ${quote(prefix)}: expected the beginning of an object key, such as "staging/"`,
    );
  }
}
