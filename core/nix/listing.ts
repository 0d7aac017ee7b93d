import { messageOf, NicheError, quote } from '../errors.ts';
import { maxListingBytes, maxNarDepth, maxNarTargetBytes } from '../limits.ts';
import { parseJson } from '../util/json.ts';
import { compareBytes, isNarName } from './nar-wire.ts';

/** The files of a NAR and their offsets: the contents of Nix's `.ls` files, version 1. */
export type NarListing = ListedDirectory | ListedRegular | ListedSymlink;

export interface ListedDirectory {
  readonly type: 'directory';
  /** By name, sorted by bytes. A map, because a file may be called `__proto__`. */
  readonly entries: ReadonlyMap<string, NarListing>;
}

export interface ListedRegular {
  readonly type: 'regular';
  /** In bytes. */
  readonly size: number;
  readonly executable: boolean;
  /** Offset of the contents in the NAR, in bytes; some writers omit it. */
  readonly narOffset?: number;
}

export interface ListedSymlink {
  readonly type: 'symlink';
  readonly target: string;
}

/** The longest `.ls` file that is parsed, in bytes: other writers add white space. */
const maxParsedBytes = 2 * maxListingBytes;

/** Formats a `.ls` file, byte for byte as Nix writes it. */
export function formatListing(listing: NarListing): string {
  const parts: string[] = [];
  const print = (node: NarListing): void => {
    if (node.type === 'directory') {
      let separator = '{"entries":{';
      if (node.entries.size === 0) parts.push(separator);
      for (const [name, child] of node.entries) {
        parts.push(separator, JSON.stringify(name), ':');
        print(child);
        separator = ',';
      }
      parts.push('},"type":"directory"}');
    } else if (node.type === 'regular') {
      const executable = node.executable ? '"executable":true,' : '';
      const narOffset = node.narOffset === undefined ? '' : `"narOffset":${node.narOffset},`;
      parts.push(`{${executable}${narOffset}"size":${node.size},"type":"regular"}`);
    } else {
      parts.push(`{"target":${JSON.stringify(node.target)},"type":"symlink"}`);
    }
  };
  parts.push('{"root":');
  print(listing);
  parts.push(',"version":1}');
  return parts.join('');
}

/**
 * Parses a `.ls` file. Ignores unknown members.
 *
 * @throws NicheError `malformed-listing`
 */
export function parseListing(text: string): NarListing {
  const bytes = Buffer.byteLength(text);
  if (bytes > maxParsedBytes) throw malformed('the size', `at most ${maxParsedBytes} bytes`, bytes);
  let document: unknown;
  try {
    document = parseJson(text);
  } catch (error) {
    const reason = messageOf(error);
    throw new NicheError('malformed-listing', `malformed NAR listing: it is not JSON: ${reason}`, {
      cause: error,
    });
  }
  const { version, root } = recordOf(document, 'the document');
  if (version !== 1) throw malformed('the version', '1', version);
  const nodeOf = (value: unknown, path: string, depth: number): NarListing => {
    const { type, ...rest } = recordOf(value, `the entry ${quote(path)}`);
    switch (type) {
      case 'directory':
        return { type, entries: entriesOf(rest['entries'], path, depth + 1) };
      case 'regular':
        return regularOf(rest, path);
      case 'symlink':
        return { type, target: targetOf(rest['target'], path) };
      default:
        throw malformed(`the type of ${quote(path)}`, 'directory, regular or symlink', type);
    }
  };
  const entriesOf = (value: unknown, path: string, depth: number): ListedDirectory['entries'] => {
    const named = Object.entries(recordOf(value, `the entries of ${quote(path)}`));
    if (depth >= maxNarDepth && named.length > 0) {
      throw malformed('the nesting', `less than ${maxNarDepth} deep`, path);
    }
    const byBytes = named.map(([name, node]) => ({ name, node, bytes: Buffer.from(name) }));
    byBytes.sort((left, right) => compareBytes(left.bytes, right.bytes));
    const children = new Map<string, NarListing>();
    for (const { name, node, bytes } of byBytes) {
      if (!isNarName(bytes, 0, bytes.length)) {
        throw malformed(`a name in ${quote(path)}`, 'a file name', name);
      }
      children.set(name, nodeOf(node, `${path}/${name}`, depth));
    }
    return children;
  };
  return nodeOf(root, '', 0);
}

function regularOf(fields: Readonly<Record<string, unknown>>, path: string): ListedRegular {
  const { executable = false, narOffset } = fields;
  if (typeof executable !== 'boolean') {
    throw malformed(`"executable" of ${quote(path)}`, 'true or false', executable);
  }
  const size = countOf(fields['size'], `"size" of ${quote(path)}`);
  if (narOffset === undefined) return { type: 'regular', size, executable };
  const offset = countOf(narOffset, `"narOffset" of ${quote(path)}`);
  return { type: 'regular', size, executable, narOffset: offset };
}

/** Reads a size or offset; refuses one that a JavaScript number cannot represent exactly. */
function countOf(value: unknown, what: string): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
  throw malformed(what, `a whole number of 0 to ${Number.MAX_SAFE_INTEGER}`, value);
}

function targetOf(value: unknown, path: string): string {
  if (typeof value === 'string' && value !== '' && Buffer.byteLength(value) <= maxNarTargetBytes) {
    return value;
  }
  throw malformed(`"target" of ${quote(path)}`, `1 to ${maxNarTargetBytes} bytes`, value);
}

function recordOf(value: unknown, what: string): Readonly<Record<string, unknown>> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return value as Readonly<Record<string, unknown>>;
  }
  throw malformed(what, 'an object', value);
}

function malformed(what: string, expected: string, got: unknown): NicheError {
  const isShort = typeof got === 'string' || typeof got === 'number' || typeof got === 'boolean';
  const shown = isShort ? quote(String(got)) : got === undefined ? 'nothing' : 'something else';
  return new NicheError(
    'malformed-listing',
    `malformed NAR listing: ${what}: expected ${expected}, got ${shown}`,
  );
}
