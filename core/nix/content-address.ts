import { NicheError, quote } from '../errors.ts';
import { formatHash, isHashAlgorithm, parseHash } from './hash.ts';
import type { Hash } from './hash.ts';

/**
 * What a content-addressed path is named by: `text` (a file with references, such as a `.drv`),
 * `flat` (a file's bytes) or `nar` (the NAR, self-references zeroed).
 */
export interface ContentAddress {
  readonly method: 'text' | 'flat' | 'nar';
  readonly hash: Hash;
}

const prefixes = { text: 'text:', flat: 'fixed:', nar: 'fixed:r:' } as const;

/**
 * Reads `text:sha256:…`, `fixed:<algorithm>:…` or `fixed:r:<algorithm>:…`.
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
      `reading the content address ${quote(text)}: expected text:sha256:… or fixed:[r:]<md5, sha1, sha256 or sha512>:…`,
    );
  }
  const method = prefix === prefixes.text ? 'text' : prefix === prefixes.nar ? 'nar' : 'flat';
  return { method, hash: parseHash(text.slice(prefix.length)) };
}

/** The content address as a narinfo's `CA` field and a path info's `ca` carry it. */
export function formatContentAddress(ca: ContentAddress): string {
  return prefixes[ca.method] + formatHash(ca.hash, 'base32');
}
