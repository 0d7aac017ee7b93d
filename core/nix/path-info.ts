import { isNicheError, messageOf, NicheError, quote } from '../errors.ts';
import { maxReferences } from '../limits.ts';
import { formatContentAddress, parseContentAddress } from './content-address.ts';
import { canonicalNarHash, formatHash, isHashAlgorithm, parseHash } from './hash.ts';
import { defaultStoreDir, parseStoreBaseName, parseStorePath } from './store-path.ts';

/** What is claimed of a store path, in the words of `nix path-info --json`. */
export interface PathInfo {
  /** The full store path. */
  readonly path: string;
  /** Of the uncompressed NAR, canonical: `sha256:` and 52 characters of Nix's base32. */
  readonly narHash: string;
  /** Of the uncompressed NAR, in bytes. */
  readonly narSize: number;
  /** Full store paths, sorted by bytes, each once. */
  readonly references: readonly string[];
  /** The full store path of the derivation that built it. */
  readonly deriver: string | null;
  /** The content address, such as `fixed:r:sha256:…`, of a content-addressed path. */
  readonly ca: string | null;
  /** Each `<key name>:<base64>`. */
  readonly signatures: readonly string[];
}

/** What the local store knows of one of its paths. */
export interface LocalPathInfo extends PathInfo {
  /** Whether the path was built here, rather than substituted or copied. */
  readonly ultimate: boolean;
}

export interface PathInfos {
  readonly valid: readonly LocalPathInfo[];
  /** Full paths that were asked for and are not in the store. */
  readonly invalid: readonly string[];
}

type JsonObject = Readonly<Record<string, unknown>>;

/**
 * Reads what `nix path-info --json` prints, told apart by shape and never by version: an array of
 * infos with their `path`, an object of infos by path, or such an object under `info`; paths in
 * full or as `<hash>-<name>`; hashes, content addresses and signatures as text or in parts. A `ca`
 * of a kind that niche does not know stays as it came, for the publisher to refuse.
 *
 * @param json the parsed document.
 * @throws NicheError `malformed-path-info`
 */
export function parsePathInfos(json: unknown, storeDir: string = defaultStoreDir): PathInfos {
  const valid: LocalPathInfo[] = [];
  const invalid: string[] = [];
  for (const [pathText, info] of entriesOf(json, storeDir)) {
    try {
      const path = readPath(pathText, storeDir);
      if (info === null || (isObject(info) && info['valid'] === false)) {
        invalid.push(path);
      } else {
        valid.push(readInfo(path, info, storeDir));
      }
    } catch (error) {
      throw isNicheError(error)
        ? new NicheError(
            'malformed-path-info',
            `reading the path info of ${quoteAny(pathText)}: ${messageOf(error)}`,
            { cause: error },
          )
        : error;
    }
  }
  return { valid, invalid };
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
  if (references.length > maxReferences) {
    throw unexpected('references', `at most ${maxReferences}`, references.length);
  }
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

/** A hash as text; in parts it is `{algorithm, hash}`, the second a bare digest or SRI. */
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
    return canonicalCa(
      (caPrefixes.get(method) ?? `fixed:${method}:`) +
        withColon(readHash('ca.hash', value['hash'])),
    );
  }
  return canonicalCa(readText('ca', value));
}

/** SRI as the `<algorithm>:<base32>` of a content address; anything else as it is. */
function withColon(hash: string): string {
  try {
    return formatHash(parseHash(hash), 'base32');
  } catch {
    return hash;
  }
}

function canonicalCa(text: string): string {
  try {
    return formatContentAddress(parseContentAddress(text));
  } catch (error) {
    if (isNicheError(error, 'unsupported-ca')) {
      return text;
    }
    throw error;
  }
}

function readSignature(value: unknown): string {
  return isObject(value)
    ? `${readText('keyName', value['keyName'])}:${readText('sig', value['sig'])}`
    : readText('a signature', value);
}

function readText(name: string, value: unknown): string {
  if (typeof value !== 'string') {
    throw unexpected(name, 'a text', value);
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

/** Nix leaves a field out, writes null, or, long ago, an empty text. */
function isAbsent(value: unknown): boolean {
  return value === undefined || value === null || value === '';
}

function quoteAny(value: unknown): string {
  return typeof value === 'string' ? quote(value) : quote(JSON.stringify(value ?? null));
}

function unexpected(name: string, expected: string, got: unknown): NicheError {
  return new NicheError('malformed-path-info', `${name} must be ${expected}, got ${quoteAny(got)}`);
}
