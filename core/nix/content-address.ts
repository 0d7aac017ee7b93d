import { NicheError, isNicheError, quote } from '../errors.ts';
import { formatHash, isHashAlgorithm, parseHash } from './hash.ts';
import type { Hash } from './hash.ts';

/**
 * What the name of a content-addressed path is computed from: `text` (a file with references, such as
 * a `.drv`), `flat` (the bytes of a file), `nar` (the NAR) or `git` (a Git blob or tree; experimental in
 * Nix, git-hashing). References of a `flat` or `nar` path to itself count as zeros.
 */
export interface ContentAddress {
  readonly method: 'text' | 'flat' | 'nar' | 'git';
  readonly hash: Hash;
}

const prefixes = { text: 'text:', flat: 'fixed:', nar: 'fixed:r:', git: 'fixed:git:' } as const;

const methods = ['text', 'flat', 'nar', 'git'] as const;

/** The algorithms that Nix accepts for each method; all for the others. */
const algorithms: Partial<Record<ContentAddress['method'], readonly string[]>> = {
  text: ['sha256'],
  git: ['sha1', 'sha256'],
};

/**
 * Parses `text:sha256:…`, `fixed:<algorithm>:…`, `fixed:r:<algorithm>:…` or `fixed:git:<algorithm>:…`.
 *
 * @throws NicheError `unsupported-ca` for any other method or algorithm, `malformed-hash`
 */
export function parseContentAddress(text: string): ContentAddress {
  const [, prefix = '', algorithm = ''] =
    /^(text:|fixed:r:|fixed:git:|fixed:)([^:]*):/.exec(text) ?? [];
  const method = methods.find((each) => prefixes[each] === prefix);
  const isKnown = method !== undefined && isHashAlgorithm(algorithm);
  if (!isKnown || algorithms[method]?.includes(algorithm) === false) {
    throw new NicheError(
      'unsupported-ca',
      `unsupported content address ${quote(text)}: expected text:sha256:…, fixed:[r:]<md5, sha1, sha256, sha512 or blake3>:… or fixed:git:<sha1 or sha256>:…`,
    );
  }
  return { method, hash: parseHash(text.slice(prefix.length)) };
}

/** Returns whether the name of a path with this address depends on its references, and proves them. */
export function coversReferences({ method, hash }: ContentAddress): boolean {
  return method === 'text' || (method === 'nar' && hash.algorithm === 'sha256');
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
