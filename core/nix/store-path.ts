import { createHash } from 'node:crypto';
import { NicheError, quote } from '../errors.ts';
import { encodeBase32 } from './base32.ts';
import type { ContentAddress } from './content-address.ts';
import { compressHash, formatHash } from './hash.ts';

export const defaultStoreDir = '/nix/store';

export interface StorePath {
  /** The full path, such as `/nix/store/<hash>-<name>`. */
  readonly path: string;
  /** The store's directory, without a slash at its end. */
  readonly storeDir: string;
  /** The 32 base32 characters that narinfos are found by. */
  readonly hash: string;
  readonly name: string;
}

const hashLength = 32;
const maxNameBytes = 211;
const baseNameGrammar = /^([0-9abcdfghijklmnpqrsvwxyz]{32})-([0-9A-Za-z+\-._?=]+)$/;

/**
 * Reads a full store path: the store's directory, then what {@link parseStoreBaseName} reads.
 * Nix would first tidy slashes, `.` and `..`; here only the tidy form is a store path.
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
 * Reads `<hash>-<name>`, as narinfos name references and derivers, by the rules of current Nix: a
 * name has 1 to 211 characters, and up to its first dash it is neither `.` nor `..`.
 *
 * @throws NicheError `malformed-store-path`
 */
export function parseStoreBaseName(text: string, storeDir: string = defaultStoreDir): StorePath {
  const [, hash, name] = baseNameGrammar.exec(text) ?? [];
  if (hash === undefined || name === undefined) {
    throw malformed(
      text,
      `expected ${hashLength} characters of base32, "-" and a name of A-Z a-z 0-9 + - . _ ? =`,
    );
  }
  assertName(name, text);
  return { path: `${storeDir}/${text}`, storeDir, hash, name };
}

/** The last component, `<hash>-<name>`. */
export function storeBaseName(path: StorePath): string {
  return `${path.hash}-${path.name}`;
}

/**
 * The last component of a full path in `storeDir`.
 *
 * @throws what {@link parseStorePath} throws
 */
export function baseNameOf(path: string, storeDir: string): string {
  return storeBaseName(parseStorePath(path, storeDir));
}

/**
 * The 32 characters of a full store path, of whichever store, that its narinfo is found by.
 *
 * @throws NicheError `malformed-store-path`
 */
export function storeHash(path: string): string {
  return parseStoreBaseName(path.slice(path.lastIndexOf('/') + 1)).hash;
}

/**
 * The store path that Nix derives from a kind of object (`source`, `text`, `output:out`, with
 * references appended), the base16 SHA-256 that stands for its contents, and its name.
 *
 * @throws NicheError `malformed-store-path` for a name that no store path may have
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
 * The one store path that contents with this address, name and references have.
 *
 * @param references full store paths without the path itself, in any order.
 * @param hasSelfReference whether the path refers to itself.
 * @throws NicheError `ca-mismatch` for references that this kind of address cannot have,
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
  if (hasSelfReference || (ca.method !== 'text' && sorted.length > 0)) {
    const refused = hasSelfReference ? 'a reference to itself' : `${sorted.length} references`;
    throw new NicheError(
      'ca-mismatch',
      `computing the store path of ${quote(name)}: contents addressed by ${ca.method} ${ca.hash.algorithm} cannot have ${refused}`,
    );
  }
  if (ca.method === 'text') {
    return makeStorePath(['text', ...sorted].join(':'), digest, name, storeDir);
  }
  const method = ca.method === 'nar' ? 'r:' : '';
  const inner = createHash('sha256')
    .update(`fixed:out:${method}${formatHash(ca.hash, 'base16')}:`)
    .digest('hex');
  return makeStorePath('output:out', inner, name, storeDir);
}

function assertName(name: string, text: string): void {
  if (name.length > maxNameBytes) {
    throw malformed(text, `a name has at most ${maxNameBytes} characters, got ${name.length}`);
  }
  if (/^\.\.?(-|$)/.test(name)) {
    throw malformed(text, 'a name must not be "." or ".." up to its first dash');
  }
}

function malformed(text: string, why: string): NicheError {
  return new NicheError('malformed-store-path', `reading the store path ${quote(text)}: ${why}`);
}
