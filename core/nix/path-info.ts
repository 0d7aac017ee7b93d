import { isNicheError, messageOf, NicheError, quote } from '../errors.ts';
import { canonicalContentAddress } from './content-address.ts';
import { canonicalNarHash, formatHash, isHashAlgorithm, parseHash } from './hash.ts';
import { defaultStoreDir, parseStoreBaseName, parseStorePath } from './store-path.ts';

/** Metadata of a store path, with the field names of `nix path-info --json`. */
export interface PathInfo {
  /** The full store path. */
  readonly path: string;
  /** Hash of the uncompressed NAR in canonical form: `sha256:` and 52 characters of Nix's base32. */
  readonly narHash: string;
  /** Size of the uncompressed NAR, in bytes. */
  readonly narSize: number;
  /** Full store paths, sorted by bytes, each once. */
  readonly references: readonly string[];
  /** The full store path of the derivation that built it. */
  readonly deriver: string | null;
  /** The content address, such as `fixed:r:sha256:…`; null for an input-addressed path. */
  readonly ca: string | null;
  /** Each `<key name>:<base64>`. */
  readonly signatures: readonly string[];
}

/** Metadata of a path in the local store. */
export interface LocalPathInfo extends PathInfo {
  /** Whether the path was built on this machine, rather than substituted or copied. */
  readonly ultimate: boolean;
}

export interface PathInfos {
  readonly valid: readonly LocalPathInfo[];
  /** Requested full paths that are not in the store. */
  readonly invalid: readonly string[];
  /** Paths whose info is malformed. */
  readonly unreadable: readonly UnreadablePath[];
}

export interface UnreadablePath {
  /** The path as the info has it. */
  readonly path: string;
  /** Has the code `malformed-path-info`. */
  readonly error: NicheError;
}

type JsonObject = Readonly<Record<string, unknown>>;

/**
 * Parses the output of `nix path-info --json`. The formats of all Nix versions are distinguished by their
 * shape:
 * - an array of infos, each with its `path`; an object of infos by path; or such an object in `info`;
 * - paths in full, or as `<hash>-<name>`;
 * - hashes, content addresses and signatures as strings, or as objects.
 *
 * A `ca` of an unsupported kind is kept as it is, for the publisher to refuse. A malformed info concerns
 * only its own path.
 *
 * @param json the parsed document
 * @throws NicheError `malformed-path-info` when it contains no infos, or those of another store
 */
export function parsePathInfos(json: unknown, storeDir: string = defaultStoreDir): PathInfos {
  const valid: LocalPathInfo[] = [];
  const invalid: string[] = [];
  const unreadable: UnreadablePath[] = [];
  for (const [pathText, info] of entriesOf(json, storeDir)) {
    try {
      const path = readPath(pathText, storeDir);
      if (info === null || (isObject(info) && info['valid'] === false)) {
        invalid.push(path);
      } else {
        valid.push(readInfo(path, info, storeDir));
      }
    } catch (cause) {
      if (!isNicheError(cause)) throw cause;
      const path = typeof pathText === 'string' ? pathText : JSON.stringify(pathText ?? null);
      const message = `malformed path info of ${quote(path)}: ${messageOf(cause)}`;
      unreadable.push({ path, error: new NicheError('malformed-path-info', message, { cause }) });
    }
  }
  return { valid, invalid, unreadable };
}

function entriesOf(json: unknown, storeDir: string): (readonly [unknown, unknown])[] {
  if (Array.isArray(json)) {
    return json.map((info: unknown) => [isObject(info) ? info['path'] : undefined, info]);
  }
  if (!isObject(json)) {
    throw unexpected('path infos', 'an array or an object', json);
  }
  const nested = json['info'];
  if (!isObject(nested)) {
    return Object.entries(json);
  }
  assertStoreDir(json, storeDir);
  return Object.entries(nested);
}

function readInfo(path: string, info: unknown, storeDir: string): LocalPathInfo {
  if (!isObject(info)) {
    throw unexpected('the info', 'an object', info);
  }
  assertStoreDir(info, storeDir);
  const { narSize, deriver, ultimate } = info;
  if (typeof narSize !== 'number' || !Number.isSafeInteger(narSize) || narSize < 0) {
    throw unexpected('narSize', 'a size in bytes below 2^53', narSize);
  }
  const references = readArray('references', info['references'] ?? []);
  return {
    path,
    narHash: canonicalNarHash(readHash('narHash', info['narHash'])),
    narSize,
    references: [...new Set(references.map((text) => readPath(text, storeDir)))].sort(),
    deriver: isAbsent(deriver) ? null : readPath(deriver, storeDir),
    ca: readCa(info['ca']),
    signatures: readArray('signatures', info['signatures'] ?? []).map(readSignature),
    ultimate: ultimate === true,
  };
}

function assertStoreDir(holder: JsonObject, storeDir: string): void {
  const found = holder['storeDir'];
  if (!isAbsent(found) && found !== storeDir) {
    throw unexpected('storeDir', quote(storeDir), found);
  }
}

function readPath(value: unknown, storeDir: string): string {
  const text = readText('a store path', value);
  const path = text.startsWith('/')
    ? parseStorePath(text, storeDir)
    : parseStoreBaseName(text, storeDir);
  return path.path;
}

/** Reads a hash: a string, or an object `{algorithm, hash}` whose `hash` is a bare digest or SRI. */
function readHash(name: string, value: unknown): string {
  if (!isObject(value)) {
    return readText(name, value);
  }
  const algorithm = readText(`${name}.algorithm`, value['algorithm']);
  const digest = readText(`${name}.hash`, value['hash']);
  return isHashAlgorithm(algorithm)
    ? formatHash(parseHash(digest, algorithm), 'base32')
    : `${algorithm}:${digest}`;
}

const caPrefixes: ReadonlyMap<string, string> = new Map([
  ['text', 'text:'],
  ['flat', 'fixed:'],
  ['nar', 'fixed:r:'],
]);

function readCa(value: unknown): string | null {
  if (isAbsent(value)) {
    return null;
  }
  if (isObject(value)) {
    const method = readText('ca.method', value['method']);
    return canonicalContentAddress(
      (caPrefixes.get(method) ?? `fixed:${method}:`) +
        withColon(readHash('ca.hash', value['hash'])),
    );
  }
  return canonicalContentAddress(readText('ca', value));
}

/** Converts SRI to the `<algorithm>:<base32>` of a content address; keeps anything else. */
function withColon(hash: string): string {
  try {
    return formatHash(parseHash(hash), 'base32');
  } catch {
    return hash;
  }
}

function readSignature(value: unknown): string {
  return isObject(value)
    ? `${readText('keyName', value['keyName'])}:${readText('sig', value['sig'])}`
    : readText('a signature', value);
}

function readText(name: string, value: unknown): string {
  if (typeof value !== 'string') {
    throw unexpected(name, 'a string', value);
  }
  return value;
}

function readArray(name: string, value: unknown): readonly unknown[] {
  if (!Array.isArray(value)) {
    throw unexpected(name, 'an array', value);
  }
  return value;
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Nix omits an absent field or writes null; old versions write an empty string. */
function isAbsent(value: unknown): boolean {
  return value === undefined || value === null || value === '';
}

function quoteAny(value: unknown): string {
  return typeof value === 'string' ? quote(value) : quote(JSON.stringify(value ?? null));
}

function unexpected(name: string, expected: string, got: unknown): NicheError {
  return new NicheError('malformed-path-info', `${name} must be ${expected}, got ${quoteAny(got)}`);
}
