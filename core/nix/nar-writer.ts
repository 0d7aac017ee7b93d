import { NicheError, quote } from '../errors.ts';
import { maxNarDepth, maxNarNameBytes, maxNarTargetBytes } from '../limits.ts';
import {
  compareBytes,
  isNarName,
  isNarTarget,
  lengthBytes,
  narText,
  paddingOf,
  tags,
} from './nar-wire.ts';

/** A file tree to write as a NAR. Strings are written as UTF-8, bytes unchanged. */
export type NarNode = NarDirectoryNode | NarRegularNode | NarSymlinkNode;

export interface NarDirectoryNode {
  readonly type: 'directory';
  /** Called when the directory is written. The entries may be in any order. */
  readonly entries: () => NarNodeEntries | Promise<NarNodeEntries>;
}

/** A node may be a function that is called when the node is written. */
export type NarNodeEntries = Iterable<
  readonly [name: string | Uint8Array, node: NarNode | (() => NarNode)]
>;

export interface NarRegularNode {
  readonly type: 'regular';
  readonly executable: boolean;
  /** In bytes. */
  readonly size: number;
  /** Called when the file is written. Returns the contents whole or in pieces. */
  readonly contents: () => Uint8Array | AsyncIterable<Uint8Array>;
}

export interface NarSymlinkNode {
  readonly type: 'symlink';
  readonly target: string | Uint8Array;
}

/** Target size of a chunk, in bytes: large enough to make the cost per chunk negligible. */
const chunkBytes = 256 * 1024;
/** Pieces of contents of at least this size, in bytes, are yielded as they are, without a copy. */
const passedOnBytes = 64 * 1024;
/** Upper bound for all strings of one node, in bytes: name, target, and the tags around them. */
const nodeStringsBytes = 8 * 1024;
/** Size of the first buffer, in bytes: most NARs are small, and allocation costs by the byte. */
const firstBufferBytes = 32 * 1024;

const encoder = new TextEncoder();
const zeros = new Uint8Array(8);
const empty = new Uint8Array();

const magicBytes = stringsOf(tags.magic);
const plainBytes = stringsOf(tags.open, tags.type, tags.regular, tags.contents);
const executableBytes = stringsOf(
  ...[tags.open, tags.type, tags.regular],
  ...[tags.executable, empty, tags.contents],
);
const symlinkBytes = stringsOf(tags.open, tags.type, tags.symlink, tags.target);
const directoryBytes = stringsOf(tags.open, tags.type, tags.directory);
const entryBytes = stringsOf(tags.entry, tags.open, tags.name);
const nodeBytes = stringsOf(tags.node);
const closeBytes = stringsOf(tags.close);

/** A directory whose entries are being written. */
interface OpenDirectory {
  readonly path: string;
  readonly entries: readonly SortedEntry[];
  next: number;
}

type SortedEntry = readonly [name: Uint8Array, node: NarNode | (() => NarNode)];

/** The next node to write. */
interface Turn {
  readonly path: string;
  readonly node: NarNode;
}

/**
 * Writes the NAR of a tree as Nix does (dumpPath), with entries sorted by the bytes of their names.
 * Large pieces of contents are yielded as they are. A chunk never changes after it was yielded.
 *
 * @throws NicheError `malformed-nar` while iterating: for an invalid or duplicate name, an invalid
 *   target, too deep a nesting, or contents that differ from the declared size
 */
export async function* writeNar(root: NarNode): AsyncGenerator<Uint8Array, undefined> {
  const output = createOutput();
  const open: OpenDirectory[] = [];
  output.append(magicBytes);
  let turn: Turn | undefined = { path: '', node: root };
  while (turn !== undefined) {
    const { path, node }: Turn = turn;
    if (node.type === 'directory') {
      output.append(directoryBytes);
      open.push({ path, entries: sorted(path, await node.entries()), next: 0 });
    } else {
      if (node.type === 'symlink') {
        appendSymlink(output, path, node);
      } else {
        output.append(node.executable ? executableBytes : plainBytes);
        output.appendLength(node.size);
        const contents = node.contents();
        if (contents instanceof Uint8Array && contents.length < passedOnBytes) {
          assertSize(path, node.size, contents.length);
          output.append(contents);
        } else {
          yield* writeContents(output, path, node.size, contents);
        }
        output.append(zeros.subarray(0, paddingOf(node.size)));
      }
      closeNode(output, open);
    }
    if (output.isFull()) yield output.take();
    turn = nextTurn(output, open);
  }
  yield output.take();
}

async function* writeContents(
  output: Output,
  path: string,
  size: number,
  contents: Uint8Array | AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  let written = 0;
  for await (const piece of contents instanceof Uint8Array ? [contents] : contents) {
    written += piece.length;
    // Checked before more is yielded, so that an endless file is noticed.
    if (written > size) assertSize(path, size, written);
    if (piece.length >= passedOnBytes) {
      if (!output.isEmpty()) yield output.take();
      yield piece;
    } else {
      output.append(piece);
      if (output.isFull()) yield output.take();
    }
  }
  assertSize(path, size, written);
}

/** Closes completed directories and starts the next entry; undefined at the end of the tree. */
function nextTurn(output: Output, open: OpenDirectory[]): Turn | undefined {
  for (let directory = open.at(-1); directory !== undefined; directory = open.at(-1)) {
    const entry = directory.entries[directory.next++];
    if (entry !== undefined) {
      const [name, node] = entry;
      const path = joined(directory.path, name);
      if (open.length >= maxNarDepth) {
        throw unwritable(path, `expected directories nested less deep than ${maxNarDepth}`);
      }
      output.append(entryBytes);
      output.appendString(name);
      output.append(nodeBytes);
      return { path, node: typeof node === 'function' ? node() : node };
    }
    open.pop();
    closeNode(output, open);
  }
  return undefined;
}

/** Closes a node, and the entry around it. */
function closeNode(output: Output, open: readonly OpenDirectory[]): void {
  output.append(closeBytes);
  if (open.length > 0) output.append(closeBytes);
}

function appendSymlink(output: Output, path: string, node: NarSymlinkNode): void {
  const target = bytesOf(node.target);
  if (!isNarTarget(target, 0, target.length)) {
    const expected = `expected a target of 1 to ${maxNarTargetBytes} bytes without NUL`;
    throw unwritable(path, `${expected}, got ${quote(narText(target))}`);
  }
  output.append(symlinkBytes);
  output.appendString(target);
}

function sorted(path: string, entries: NarNodeEntries): readonly SortedEntry[] {
  const byName: SortedEntry[] = [];
  for (const [text, node] of entries) {
    const name = bytesOf(text);
    if (!isNarName(name, 0, name.length)) {
      const expected = `expected a name of 1 to ${maxNarNameBytes} bytes without "/" and NUL`;
      throw unwritable(path, `${expected}, neither "." nor "..", got ${quote(narText(name))}`);
    }
    byName.push([name, node]);
  }
  byName.sort(([left], [right]) => compareBytes(left, right));
  for (const [index, [name]] of byName.entries()) {
    const previous = byName[index - 1];
    if (previous !== undefined && compareBytes(previous[0], name) === 0) {
      throw unwritable(joined(path, name), 'the name occurs twice');
    }
  }
  return byName;
}

interface Output {
  readonly append: (bytes: Uint8Array) => void;
  readonly appendLength: (length: number) => void;
  /** Appends a string with its length field and padding. */
  readonly appendString: (bytes: Uint8Array) => void;
  readonly isEmpty: () => boolean;
  /** Returns whether `take` is due. Until then, the strings of a node and one small piece still fit. */
  readonly isFull: () => boolean;
  /** Returns the bytes appended since the last call. */
  readonly take: () => Uint8Array;
}

function createOutput(): Output {
  const capacity = chunkBytes + passedOnBytes + nodeStringsBytes;
  let buffer = Buffer.allocUnsafe(0);
  /** Size of the next buffer, in bytes; it never shrinks. */
  let length = firstBufferBytes;
  let used = 0;
  const reserve = (bytes: number): void => {
    if (used + bytes <= buffer.length) return;
    if (length < used + bytes) length = Math.min(Math.max(2 * length, used + bytes), capacity);
    const longer = Buffer.allocUnsafe(length);
    longer.set(buffer.subarray(0, used));
    buffer = longer;
  };
  const append = (bytes: Uint8Array): void => {
    reserve(bytes.length);
    buffer.set(bytes, used);
    used += bytes.length;
  };
  const appendLength = (length: number): void => {
    reserve(lengthBytes);
    buffer.writeUInt32LE(length % 2 ** 32, used);
    buffer.writeUInt32LE(Math.floor(length / 2 ** 32), used + 4);
    used += lengthBytes;
  };
  return {
    append,
    appendLength,
    appendString: (bytes) => {
      appendLength(bytes.length);
      append(bytes);
      append(zeros.subarray(0, paddingOf(bytes.length)));
    },
    isEmpty: () => used === 0,
    isFull: () => used >= chunkBytes,
    take: () => {
      const chunk = buffer.subarray(0, used);
      used = 0;
      // A few strings between large files must not keep a whole buffer alive.
      if (chunk.length < nodeStringsBytes) return Uint8Array.from(chunk);
      buffer = Buffer.allocUnsafe(0);
      return chunk;
    },
  };
}

/** Encodes strings one after the other, each with its length field and padding. */
function stringsOf(...strings: readonly Uint8Array[]): Uint8Array {
  const output = createOutput();
  for (const string of strings) output.appendString(string);
  return output.take();
}

function bytesOf(text: string | Uint8Array): Uint8Array {
  return typeof text === 'string' ? encoder.encode(text) : text;
}

function joined(path: string, name: Uint8Array): string {
  return path === '' ? narText(name) : `${path}/${narText(name)}`;
}

function assertSize(path: string, size: number, written: number): void {
  if (written === size) return;
  throw unwritable(path, `expected ${size} bytes of contents, got ${written}`);
}

function unwritable(path: string, reason: string): NicheError {
  const what = path === '' ? 'the root' : quote(path);
  return new NicheError('malformed-nar', `cannot write ${what} to a NAR: ${reason}`);
}
