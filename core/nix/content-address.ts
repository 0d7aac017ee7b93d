import { NicheError, isNicheError, quote } from '../errors.ts';
import { formatHash, isHashAlgorithm, parseHash } from './hash.ts';
import type { Hash } from './hash.ts';

/**
 * What the name of a content-addressed path is computed from: `text` (a file with references, such as
 * a `.drv`), `flat` (the bytes of a file) or `nar` (the NAR, with self-references zeroed).
 */
export interface ContentAddress {
  readonly method: 'text' | 'flat' | 'nar';
  readonly hash: Hash;
}

const prefixes = { text: 'text:', flat: 'fixed:', nar: 'fixed:r:' } as const;

/**
 * Parses `text:sha256:…`, `fixed:<algorithm>:…` or `fixed:r:<algorithm>:…`.
 *
 * @throws NicheError `unsupported-ca` for any other method or algorithm, `malformed-hash`
 */
export function parseContentAddress(text: string): ContentAddress {
  const parts = /^(text:|fixed:r:|fixed:)([^:]*):/.exec(text);
  const [, prefix = '', algorithm = ''] = parts ?? [];
  const known = prefix === prefixes.text ? algorithm === 'sha256' : isHashAlgorithm(algorithm);
  if (!known) {
    throw new NicheError(
      'unsupported-ca',
      `unsupported content address ${quote(text)}: expected text:sha256:… or fixed:[r:]<md5, sha1, sha256 or sha512>:…`,
    );
  }
  const method = prefix === prefixes.text ? 'text' : prefix === prefixes.nar ? 'nar' : 'flat';
  return { method, hash: parseHash(text.slice(prefix.length)) };
}

/** Formats a content address as in the `CA` field of a narinfo and the `ca` of a path info. */
export function formatContentAddress(ca: ContentAddress): string {
  return prefixes[ca.method] + formatHash(ca.hash, 'base32');
}

/**
 * Returns a content address in canonical form. One of an unsupported kind is returned unchanged, for
 * the publisher to refuse with its own code.
 *
 * @throws NicheError `malformed-hash`
 */
export function canonicalContentAddress(text: string): string {
  try {
    return formatContentAddress(parseContentAddress(text));
  } catch (error) {
    if (isNicheError(error, 'unsupported-ca')) return text;
    throw error;
  }
}
