import { createHash } from 'node:crypto';
import { NicheError, quote } from '../errors.ts';
import { encodeBase32 } from './base32.ts';
import type { ContentAddress } from './content-address.ts';
import { compressHash, formatHash } from './hash.ts';

export const defaultStoreDir = '/nix/store';

export interface StorePath {
  /** The full path, such as `/nix/store/<hash>-<name>`. */
  readonly path: string;
  /** The store directory, without a final slash. */
  readonly storeDir: string;
  /** The 32 base32 characters that are the key of the narinfo. */
  readonly hash: string;
  readonly name: string;
}

/** Length of the hash in a store path, in characters. */
export const storeHashLength = 32;
/** Longest name of a store path, in characters (StorePath::MaxPathLen in Nix). */
export const maxStoreNameLength = 211;
const baseNameGrammar = /^([0-9abcdfghijklmnpqrsvwxyz]{32})-([0-9A-Za-z+\-._?=]+)$/;

/**
 * Parses a full store path: the store directory, a slash, and a base name. Unlike Nix, it does not
 * normalize slashes, `.` and `..` first.
 *
 * @throws NicheError `malformed-store-path`
 */
export function parseStorePath(text: string, storeDir: string = defaultStoreDir): StorePath {
  if (!text.startsWith(`${storeDir}/`)) {
    throw malformed(text, `expected a path in ${quote(storeDir)}`);
  }
  return parseStoreBaseName(text.slice(storeDir.length + 1), storeDir);
}

/**
 * Parses `<hash>-<name>`, the form of references and derivers in narinfos, by the rules of current Nix
 * (checkName in path.cc): a name has 1 to 211 characters, and is not `.` or `..` up to its first dash.
 *
 * @throws NicheError `malformed-store-path`
 */
export function parseStoreBaseName(text: string, storeDir: string = defaultStoreDir): StorePath {
  const [, hash, name] = baseNameGrammar.exec(text) ?? [];
  if (hash === undefined || name === undefined) {
    throw malformed(
      text,
      `expected ${storeHashLength} characters of base32, "-" and a name of A-Z a-z 0-9 + - . _ ? =`,
    );
  }
  assertName(name, text);
  return { path: `${storeDir}/${text}`, storeDir, hash, name };
}

/** Returns the last component, `<hash>-<name>`. */
export function storeBaseName(path: StorePath): string {
  return `${path.hash}-${path.name}`;
}

/**
 * Returns the last component of a full path in `storeDir`, `<hash>-<name>`.
 *
 * @throws NicheError `malformed-store-path`
 */
export function baseNameOf(path: string, storeDir: string): string {
  return storeBaseName(parseStorePath(path, storeDir));
}

/**
 * Returns the hash of a full store path in any store directory, the key of its narinfo.
 *
 * @throws NicheError `malformed-store-path`
 */
export function storeHash(path: string): string {
  return parseStoreBaseName(path.slice(path.lastIndexOf('/') + 1)).hash;
}

/**
 * Computes a store path as Nix does (StoreDirConfig::makeStorePath).
 *
 * @param type the kind of object: `source`, `text` or `output:out`, with references appended
 * @param digestHex the SHA-256 of the contents, or of their description, in base16
 * @throws NicheError `malformed-store-path` for an invalid name
 */
export function makeStorePath(
  type: string,
  digestHex: string,
  name: string,
  storeDir: string = defaultStoreDir,
): string {
  const identity = createHash('sha256')
    .update(`${type}:sha256:${digestHex}:${storeDir}:${name}`)
    .digest();
  return parseStoreBaseName(`${encodeBase32(compressHash(identity))}-${name}`, storeDir).path;
}

/**
 * Computes the store path of content-addressed contents (makeFixedOutputPathFromCA in Nix).
 *
 * @param references full store paths without the path itself, in any order
 * @param hasSelfReference whether the path refers to itself
 * @throws NicheError `ca-mismatch` for references that this kind of address does not allow,
 *   `malformed-store-path`
 */
export function computeCaPath(
  ca: ContentAddress,
  name: string,
  references: readonly string[],
  hasSelfReference: boolean,
  storeDir: string = defaultStoreDir,
): string {
  const sorted = [...new Set(references)].sort();
  const digest = Buffer.from(ca.hash.digest).toString('hex');
  if (ca.method === 'nar' && ca.hash.algorithm === 'sha256') {
    const type = ['source', ...sorted, ...(hasSelfReference ? ['self'] : [])].join(':');
    return makeStorePath(type, digest, name, storeDir);
  }
  // Nix before 2.16 allows a reference to itself here, and ignores it in the name.
  const allowsSelf =
    (ca.method === 'flat' || ca.method === 'nar') && ca.hash.algorithm !== 'blake3';
  const refusesSelf = hasSelfReference && !allowsSelf;
  if (refusesSelf || (ca.method !== 'text' && sorted.length > 0)) {
    const refused = refusesSelf ? 'a reference to itself' : `${sorted.length} references`;
    throw new NicheError(
      'ca-mismatch',
      `cannot compute the store path of ${quote(name)}: a ${ca.method} ${ca.hash.algorithm} address does not allow ${refused}`,
    );
  }
  if (ca.method === 'text') {
    return makeStorePath(['text', ...sorted].join(':'), digest, name, storeDir);
  }
  const method = { flat: '', nar: 'r:', git: 'git:' }[ca.method];
  const inner = createHash('sha256')
    .update(`fixed:out:${method}${formatHash(ca.hash, 'base16')}:`)
    .digest('hex');
  return makeStorePath('output:out', inner, name, storeDir);
}

function assertName(name: string, text: string): void {
  if (name.length > maxStoreNameLength) {
    throw malformed(
      text,
      `a name has at most ${maxStoreNameLength} characters, got ${name.length}`,
    );
  }
  if (/^\.\.?(-|$)/.test(name)) {
    throw malformed(text, 'the name must not be "." or ".." up to its first dash');
  }
}

function malformed(text: string, reason: string): NicheError {
  return new NicheError('malformed-store-path', `malformed store path ${quote(text)}: ${reason}`);
}
