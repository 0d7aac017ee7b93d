import { messageOf, NicheError, quote } from '../errors.ts';
import { maxListingEntries, maxNarDepth, maxNarTargetBytes } from '../limits.ts';
import type { NarHandler } from './nar-parser.ts';
import { compareBytes, isNarName } from './nar-wire.ts';

/** What is in a NAR and where: Nix's `.ls` files, version 1. */
export type NarListing = ListedDirectory | ListedRegular | ListedSymlink;

export interface ListedDirectory {
  readonly type: 'directory';
  /** By name, sorted by bytes. A map, since a file may be called `__proto__`. */
  readonly entries: ReadonlyMap<string, NarListing>;
}

export interface ListedRegular {
  readonly type: 'regular';
  /** In bytes. */
  readonly size: number;
  readonly executable: boolean;
  /** Where the contents begin in the NAR, in bytes; some writers leave it out. */
  readonly narOffset?: number;
}

export interface ListedSymlink {
  readonly type: 'symlink';
  readonly target: string;
}

/** A handler for a NAR parser that makes the NAR's listing. */
export interface ListingBuilder extends NarHandler {
  /**
   * The listing, once the parser's `end` has returned; undefined when there is none: beyond
   * {@link maxListingEntries} entries, or when a name or target is not UTF-8, which JSON can't hold
   * (Nix fails there).
   */
  listing(): NarListing | undefined;
}

export function createListingBuilder(): ListingBuilder {
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  let root: NarListing | undefined;
  let open: Map<string, NarListing>[] = [];
  let entries = 0;
  let unlistable = false;

  const giveUp = (): void => {
    unlistable = true;
    root = undefined;
    open = [];
  };
  const add = (name: Uint8Array, node: NarListing): void => {
    if (++entries > maxListingEntries) {
      giveUp();
      return;
    }
    const around = open.at(-1);
    if (around === undefined) root = node;
    else around.set(decoder.decode(name), node);
  };
  const listed = (action: () => void): void => {
    if (unlistable) return;
    try {
      action();
    } catch {
      // The decoder's only failure: bytes that are not UTF-8.
      giveUp();
    }
  };
  return {
    directory: (name) => {
      listed(() => {
        const inside = new Map<string, NarListing>();
        add(name, { type: 'directory', entries: inside });
        open.push(inside);
      });
    },
    leave: () => {
      open.pop();
    },
    regular: (name, { executable, size, offset }) => {
      listed(() => {
        add(name, { type: 'regular', size, executable, narOffset: offset });
      });
    },
    symlink: (name, target) => {
      listed(() => {
        add(name, { type: 'symlink', target: decoder.decode(target) });
      });
    },
    listing: () => root,
  };
}

/** A `.ls` file, byte for byte as Nix writes it. */
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
 * Reads a `.ls` file. Members that are not known are passed over.
 *
 * @throws NicheError `malformed-listing`
 */
export function parseListing(text: string): NarListing {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (error) {
    const why = messageOf(error);
    throw new NicheError('malformed-listing', `the NAR listing is no JSON: ${why}`, {
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
    const inside = new Map<string, NarListing>();
    for (const { name, node, bytes } of byBytes) {
      if (!isNarName(bytes, 0, bytes.length)) {
        throw malformed(`a name in ${quote(path)}`, 'a file name', name);
      }
      inside.set(name, nodeOf(node, `${path}/${name}`, depth));
    }
    return inside;
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

/** A size or offset; one that a JavaScript number can't hold exactly is refused. */
function countOf(value: unknown, what: string): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
  throw malformed(what, `a whole number of 0 to ${Number.MAX_SAFE_INTEGER}`, value);
}

function targetOf(value: unknown, path: string): string {
  if (typeof value === 'string' && value !== '' && Buffer.byteLength(value) <= maxNarTargetBytes) {
    return value;
  }
  throw malformed(`"target" of ${quote(path)}`, `1 to ${maxNarTargetBytes} bytes of text`, value);
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
    `the NAR listing is malformed: ${what}: expected ${expected}, got ${shown}`,
  );
}
