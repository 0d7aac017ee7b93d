import { messageOf, NicheError, quote } from '../errors.ts';
import { decodeBase32, encodeBase32 } from './base32.ts';
import { decodeBase64, encodeBase64 } from '../util/base64.ts';

/** blake3 is experimental in Nix (blake3-hashes). */
const digestBytes = { md5: 16, sha1: 20, sha256: 32, sha512: 64, blake3: 32 } as const;

export type HashAlgorithm = keyof typeof digestBytes;

export interface Hash {
  readonly algorithm: HashAlgorithm;
  readonly digest: Uint8Array;
}

/** `sri` is `<algorithm>-<base64>`; the others are `<algorithm>:<digest>`. */
export type HashEncoding = 'base32' | 'base16' | 'base64' | 'sri';

export function isHashAlgorithm(text: string): text is HashAlgorithm {
  return Object.hasOwn(digestBytes, text);
}

/**
 * Parses a hash as Nix writes it: SRI (`sha256-<base64>`), `sha256:<base16, base32 or base64>`, or a
 * bare digest when `algorithm` is given. The length distinguishes the encodings. Unlike Nix, it
 * refuses SRI with odd padding.
 *
 * @param algorithm the algorithm that the hash must have
 * @throws NicheError `malformed-hash`
 */
export function parseHash(text: string, algorithm?: HashAlgorithm): Hash {
  const parts = /^([a-z0-9]+)([:-])/.exec(text);
  const named = parts?.[1];
  if (named === undefined) {
    if (algorithm === undefined) {
      throw malformed(text, 'expected an algorithm before the digest');
    }
    return { algorithm, digest: decodeDigest(text, algorithm, text) };
  }
  if (!isHashAlgorithm(named)) {
    throw malformed(text, `expected one of ${Object.keys(digestBytes).join(', ')}`);
  }
  if (algorithm !== undefined && named !== algorithm) {
    throw malformed(text, `expected ${algorithm}`);
  }
  const digest = text.slice(named.length + 1);
  return parts?.[2] === '-'
    ? { algorithm: named, digest: decodeSri(digest, named, text) }
    : { algorithm: named, digest: decodeDigest(digest, named, text) };
}

export function formatHash(hash: Hash, encoding: HashEncoding): string {
  switch (encoding) {
    case 'base32':
      return `${hash.algorithm}:${encodeBase32(hash.digest)}`;
    case 'base16':
      return `${hash.algorithm}:${Buffer.from(hash.digest).toString('hex')}`;
    case 'base64':
      return `${hash.algorithm}:${encodeBase64(hash.digest)}`;
    case 'sri':
      return `${hash.algorithm}-${encodeBase64(hash.digest)}`;
  }
}

/** Formats a SHA-256 digest as `sha256:` and 52 characters of Nix's base32. */
export function formatSha256(digest: Uint8Array): string {
  return formatHash({ algorithm: 'sha256', digest }, 'base32');
}

/**
 * Returns a NAR hash in the one form that niche compares and signs, that of {@link formatSha256}.
 *
 * @throws NicheError `malformed-hash`, also for an algorithm other than SHA-256
 */
export function canonicalNarHash(text: string): string {
  const hash = parseHash(text);
  if (hash.algorithm !== 'sha256') {
    throw malformed(text, 'a NAR hash must be sha256');
  }
  return formatHash(hash, 'base32');
}

/** Folds a digest to `bytes` bytes with XOR, as store paths do (compressHash in Nix's hash.cc). */
export function compressHash(digest: Uint8Array, bytes = 20): Uint8Array {
  const folded = new Uint8Array(bytes);
  for (const [index, byte] of digest.entries()) {
    folded[index % bytes] = (folded[index % bytes] ?? 0) ^ byte;
  }
  return folded;
}

function decodeSri(digest: string, algorithm: HashAlgorithm, text: string): Uint8Array {
  const bytes = decodeBase64(digest);
  if (bytes?.length !== digestBytes[algorithm]) {
    throw malformed(text, `expected ${digestBytes[algorithm]} bytes in padded base64`);
  }
  return bytes;
}

function decodeDigest(digest: string, algorithm: HashAlgorithm, text: string): Uint8Array {
  const size = digestBytes[algorithm];
  switch (digest.length) {
    case size * 2:
      if (/^[0-9a-f]*$/i.test(digest)) {
        return new Uint8Array(Buffer.from(digest, 'hex'));
      }
      throw malformed(text, 'expected base16');
    case Math.ceil((size * 8) / 5):
      try {
        return decodeBase32(digest);
      } catch (error) {
        throw malformed(text, messageOf(error), error);
      }
    case Math.ceil(size / 3) * 4:
      return decodeSri(digest, algorithm, text);
    default:
      throw malformed(text, `${digest.length} characters are not a ${algorithm} digest`);
  }
}

function malformed(text: string, reason: string, cause?: unknown): NicheError {
  return new NicheError(
    'malformed-hash',
    `malformed hash ${quote(text)}: ${reason}`,
    cause === undefined ? undefined : { cause },
  );
}
