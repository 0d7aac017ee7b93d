import { messageOf, NicheError, quote } from '../errors.ts';
import { maxListingEntries, maxNarDepth, maxNarTargetBytes } from '../limits.ts';
import { parseJson } from '../util/json.ts';
import type { NarHandler } from './nar-parser.ts';
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

/** A handler that builds the listing of the NAR that a parser reads. */
export interface ListingBuilder extends NarHandler {
  /**
   * Returns the listing, after the parser's `end` has returned. Undefined beyond
   * {@link maxListingEntries} entries, and for a name or target that is not UTF-8: JSON cannot
   * represent it, and Nix fails on it.
   */
  listing(): NarListing | undefined;
}

export function createListingBuilder(): ListingBuilder {
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  let root: NarListing | undefined;
  let open: Map<string, NarListing>[] = [];
  let entries = 0;
  let hasFailed = false;

  const giveUp = (): void => {
    hasFailed = true;
    root = undefined;
    open = [];
  };
  const add = (name: Uint8Array, node: NarListing): void => {
    if (++entries > maxListingEntries) {
      giveUp();
      return;
    }
    const parent = open.at(-1);
    if (parent === undefined) root = node;
    else parent.set(decoder.decode(name), node);
  };
  const orGiveUp = (action: () => void): void => {
    if (hasFailed) return;
    try {
      action();
    } catch {
      // The decoder fails only on bytes that are not UTF-8.
      giveUp();
    }
  };
  return {
    directory: (name) => {
      orGiveUp(() => {
        const children = new Map<string, NarListing>();
        add(name, { type: 'directory', entries: children });
        open.push(children);
      });
    },
    leave: () => {
      open.pop();
    },
    regular: (name, { executable, size, offset }) => {
      orGiveUp(() => {
        add(name, { type: 'regular', size, executable, narOffset: offset });
      });
    },
    symlink: (name, target) => {
      orGiveUp(() => {
        add(name, { type: 'symlink', target: decoder.decode(target) });
      });
    },
    listing: () => root,
  };
}

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
  let entries = 0;

  const nodeOf = (value: unknown, path: string, depth: number): NarListing => {
    if (++entries > maxListingEntries) {
      throw malformed('the entries', `at most ${maxListingEntries}`, entries);
    }
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
