import { isNicheError, messageOf, NicheError, quote } from '../errors.ts';
import { maxNarInfoBytes, maxReferences } from '../limits.ts';
import { formatContentAddress, parseContentAddress } from './content-address.ts';
import { canonicalNarHash, formatHash, parseHash } from './hash.ts';
import { formatSignature, parseSignature } from './keys.ts';
import type { PathInfo } from './path-info.ts';
import { defaultStoreDir, parseStoreBaseName, parseStorePath, baseNameOf } from './store-path.ts';

/**
 * A path info, and where a cache stores the NAR. `signatures` are sorted by bytes. Signatures from a
 * parsed narinfo may be malformed, because Nix allows that; malformed ones are never formatted.
 */
export interface NarInfo extends PathInfo {
  /** URL of the NAR file, relative to the cache or absolute. Not signed, so untrusted. */
  readonly url: string;
  /** Compression of the file, such as `zstd` or `none`. Not signed, so untrusted. */
  readonly compression: string;
  /** Hash of the stored file, `<algorithm>:<base32>`. */
  readonly fileHash: string | null;
  /** Size of the stored file, in bytes. */
  readonly fileSize: number | null;
  /** Fields unknown to niche, in their order. */
  readonly extra: readonly (readonly [name: string, value: string])[];
}

const knownFields: ReadonlySet<string> = new Set([
  'StorePath',
  'URL',
  'Compression',
  'FileHash',
  'FileSize',
  'NarHash',
  'NarSize',
  'References',
  'Deriver',
  'Sig',
  'CA',
]);

/** Nix's value for an unknown deriver. */
const unknownDeriver = 'unknown-deriver';
/** The compression of a narinfo without the field, as in Nix. */
const defaultCompression = 'bzip2';
const controlCharacter = /[\0-\x08\x0b-\x1f\x7f]/;

/**
 * Parses a narinfo as Nix does (NarInfo's constructor in nar-info.cc): lines of `Name: value`. The last
 * value of a repeated field wins, except that `References` and `CA` must be unique. It is stricter
 * than Nix where Nix guesses the meaning of a line.
 *
 * @throws NicheError `malformed-narinfo`
 */
export function parseNarInfo(text: string, storeDir: string = defaultStoreDir): NarInfo {
  const fields = readFields(text);
  const optional = <Parsed>(name: string, parse: (text: string) => Parsed): Parsed | null =>
    fields.known
      .get(name)
      ?.map((value) => parseField(name, value, parse))
      .at(-1) ?? null;
  const required = <Parsed>(name: string, parse: (text: string) => Parsed): Parsed => {
    const parsed = optional(name, parse);
    if (parsed === null || parsed === '' || parsed === 0) {
      throw malformed(`${name} is missing`);
    }
    return parsed;
  };

  return {
    path: required('StorePath', (path) => parseStorePath(path, storeDir).path),
    url: required('URL', String),
    compression:
      optional('Compression', (name) => (name === '' ? null : name)) ?? defaultCompression,
    fileHash: optional('FileHash', (hash) => formatHash(parseHash(hash), 'base32')),
    fileSize: optional('FileSize', parseSize),
    narHash: required('NarHash', canonicalNarHash),
    narSize: required('NarSize', parseSize),
    references: optional('References', (references) => parseReferences(references, storeDir)) ?? [],
    deriver: optional('Deriver', (deriver) =>
      deriver === unknownDeriver ? null : parseStoreBaseName(deriver, storeDir).path,
    ),
    signatures: [...new Set(fields.known.get('Sig'))].sort(),
    ca: optional('CA', (ca) => (ca === '' ? null : formatContentAddress(parseContentAddress(ca)))),
    extra: fields.extra,
  };
}

/**
 * Formats a narinfo in Nix's order and form (NarInfo::to_string). Values are parsed and formatted
 * again, so that none can inject a line.
 *
 * @throws NicheError `malformed-narinfo`, `malformed-store-path`, `malformed-hash`,
 *   `malformed-signature`, `unsupported-ca`
 */
export function formatNarInfo(info: NarInfo, storeDir: string = defaultStoreDir): string {
  const lines: (readonly [string, string])[] = [
    ['StorePath', parseStorePath(info.path, storeDir).path],
    ['URL', freeText('URL', info.url)],
    ['Compression', freeText('Compression', info.compression)],
  ];
  if (info.fileHash !== null) {
    lines.push(['FileHash', formatHash(parseHash(info.fileHash), 'base32')]);
  }
  if (info.fileSize !== null) {
    lines.push(['FileSize', formatSize('FileSize', info.fileSize, 0)]);
  }
  const references = info.references.map((path) => baseNameOf(path, storeDir));
  lines.push(
    ['NarHash', canonicalNarHash(info.narHash)],
    ['NarSize', formatSize('NarSize', info.narSize, 1)],
    ['References', [...new Set(references)].sort().join(' ')],
  );
  if (info.deriver !== null) {
    lines.push(['Deriver', baseNameOf(info.deriver, storeDir)]);
  }
  const signatures = info.signatures.map((text) => formatSignature(parseSignature(text)));
  for (const signature of [...new Set(signatures)].sort()) {
    lines.push(['Sig', signature]);
  }
  if (info.ca !== null) {
    lines.push(['CA', formatContentAddress(parseContentAddress(info.ca))]);
  }
  for (const [name, value] of info.extra) {
    if (!isFieldName(name) || knownFields.has(name)) {
      throw malformed(`${quote(name)} is not a valid name of an extra field`);
    }
    lines.push([name, value === '' ? '' : freeText(name, value)]);
  }
  return lines.map(([name, value]) => `${name}: ${value}\n`).join('');
}

interface Fields {
  readonly known: ReadonlyMap<string, readonly string[]>;
  readonly extra: readonly (readonly [string, string])[];
}

function readFields(text: string): Fields {
  if (Buffer.byteLength(text) > maxNarInfoBytes) {
    throw malformed(`expected at most ${maxNarInfoBytes} bytes, got ${Buffer.byteLength(text)}`);
  }
  if (controlCharacter.test(text)) {
    throw malformed('it contains a control character, such as CR in CRLF');
  }
  if (!text.endsWith('\n')) {
    throw malformed('its last line does not end with a newline');
  }
  const known = new Map<string, string[]>();
  const extra: [string, string][] = [];
  for (const [index, line] of text.slice(0, -1).split('\n').entries()) {
    const colon = line.indexOf(': ');
    const name = line.slice(0, Math.max(colon, 0));
    if (!isFieldName(name)) {
      throw malformed(`line ${index + 1} is ${quote(line)}, expected "<name>: <value>"`);
    }
    const value = line.slice(colon + 2);
    const earlier = known.get(name);
    if (!knownFields.has(name)) {
      extra.push([name, value]);
    } else if (earlier === undefined) {
      known.set(name, [value]);
    } else if (name === 'References' || name === 'CA') {
      throw malformed(`line ${index + 1} is a second ${name}`);
    } else {
      earlier.push(value);
    }
  }
  return { known, extra };
}

function isFieldName(name: string): boolean {
  return name !== '' && !name.includes(':') && !name.includes('\n') && !controlCharacter.test(name);
}

function parseField<Parsed>(name: string, value: string, parse: (text: string) => Parsed): Parsed {
  try {
    return parse(value);
  } catch (error) {
    throw isNicheError(error) ? malformed(`${name}: ${messageOf(error)}`, error) : error;
  }
}

function parseSize(text: string): number {
  const size = Number(text);
  if (!/^[0-9]+$/.test(text) || !Number.isSafeInteger(size)) {
    throw malformed(`expected a size in bytes below 2^53, got ${quote(text)}`);
  }
  return size;
}

function formatSize(name: string, size: number, least: number): string {
  if (!Number.isSafeInteger(size) || size < least) {
    throw malformed(`${name} must be a size in bytes of at least ${least}, got ${size}`);
  }
  return String(size);
}

function parseReferences(text: string, storeDir: string): readonly string[] {
  const names = text.split(' ').filter((name) => name !== '');
  if (names.length > maxReferences) {
    throw malformed(`expected at most ${maxReferences} references, got ${names.length}`);
  }
  return [...new Set(names.map((name) => parseStoreBaseName(name, storeDir).path))].sort();
}

function freeText(name: string, value: string): string {
  if (value === '' || value.includes('\n') || controlCharacter.test(value)) {
    throw malformed(`${name} must be one line of text, got ${quote(value)}`);
  }
  return value;
}

function malformed(reason: string, cause?: unknown): NicheError {
  return new NicheError(
    'malformed-narinfo',
    `malformed narinfo: ${reason}`,
    cause === undefined ? undefined : { cause },
  );
}
