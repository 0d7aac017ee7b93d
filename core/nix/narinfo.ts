import { isNicheError, messageOf, NicheError, quote } from '../errors.ts';
import { maxNarInfoBytes, maxReferences } from '../limits.ts';
import { formatContentAddress, parseContentAddress } from './content-address.ts';
import { canonicalNarHash, formatHash, parseHash } from './hash.ts';
import { formatSignature, parseSignature } from './keys.ts';
import type { PathInfo } from './path-info.ts';
import { defaultStoreDir, parseStoreBaseName, parseStorePath, baseNameOf } from './store-path.ts';

/**
 * A path info and where a cache keeps its NAR. Of `signatures`, in the order of their bytes, those
 * read from a narinfo may be malformed, as Nix lets them be; they are never printed so.
 */
export interface NarInfo extends PathInfo {
  /** Where the file is, relative to the cache or absolute; not signed, so not to be trusted. */
  readonly url: string;
  /** How the file is compressed, such as `zstd` or `none`; not signed either. */
  readonly compression: string;
  /** Of the file as stored, `<algorithm>:<base32>`. */
  readonly fileHash: string | null;
  /** Of the file as stored, in bytes. */
  readonly fileSize: number | null;
  /** Fields that this version does not know, in their order. */
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

/** Nix's word for a deriver that is not known. */
const unknownDeriver = 'unknown-deriver';
/** What a narinfo without the field means. */
const defaultCompression = 'bzip2';
const controlCharacter = /[\0-\x08\x0b-\x1f\x7f]/;

/**
 * Reads a narinfo as Nix does: lines of `Name: value`, of repeated fields the last one holds, but
 * `References` and `CA` come once; and stricter where Nix guesses at what a line means.
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
 * Prints a narinfo in Nix's order and form. Every value is printed from what it was parsed to, so
 * that none can bring a line of its own.
 *
 * @throws NicheError `malformed-narinfo` and the codes of the values' own formats
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
      throw malformed(`${quote(name)} is no name for an extra field`);
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
    throw malformed('it has a control character, such as the CR of a CRLF');
  }
  if (!text.endsWith('\n')) {
    throw malformed('its last line does not end in a newline');
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

function malformed(why: string, cause?: unknown): NicheError {
  return new NicheError(
    'malformed-narinfo',
    `malformed narinfo: ${why}`,
    cause === undefined ? undefined : { cause },
  );
}
