import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  read,
  readdirSync,
  readlinkSync,
  readSync,
} from 'node:fs';
import { resolve } from 'node:path';
import { promisify } from 'node:util';
import { messageOf, NicheError, quote } from '../../core/errors.ts';
import { narText } from '../../core/nix/nar-wire.ts';
import { writeNar } from '../../core/nix/nar-writer.ts';
import type { NarNode, NarNodeEntries } from '../../core/nix/nar-writer.ts';

export interface PackTreeOptions {
  readonly signal?: AbortSignal | undefined;
  /**
   * Whether to undo Nix's case hack, which renames files whose names differ in case only.
   *
   * @default true on macOS, as in Nix
   */
  readonly caseHack?: boolean | undefined;
}

/** A file up to this size is read synchronously: a round through the thread pool costs more. */
const wholeFileBytes = 256 * 1024;
/** Larger files are read in blocks of this size, one ahead of the consumer. */
const blockBytes = 1024 * 1024;

/** Nix's case hack appends this and a number to a name. */
const caseHackMarker = '~nix~case~hack~';

/** In case the file was replaced: refuses a symlink, and does not block on a FIFO. */
const openFlags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

const readAsync = promisify(read);

/** The methods that `Stats` and `Dirent` share. */
interface Kind {
  isFile(): boolean;
  isDirectory(): boolean;
  isSymbolicLink(): boolean;
}

/**
 * Yields the NAR of the file at `path` as `nix-store --dump` writes it. A symlink is not followed.
 *
 * @throws NicheError while iterating: `not-found`; `unpackable` (not a file, directory or symlink,
 *   unreadable, or changed meanwhile); `malformed-nar` (nested too deep); `aborted`
 */
export async function* packTree(
  path: string,
  options: PackTreeOptions = {},
): AsyncGenerator<Uint8Array, undefined> {
  const { signal, caseHack = process.platform === 'darwin' } = options;
  const root = Buffer.from(resolve(path));
  const context: Context = { signal, caseHack };
  yield* writeNar(attempt(root, () => nodeAt(root, lstatSync(root), context)));
}

interface Context {
  readonly signal: AbortSignal | undefined;
  readonly caseHack: boolean;
}

function nodeAt(path: Buffer, kind: Kind, context: Context): NarNode {
  assertNotAborted(path, context.signal);
  if (kind.isFile()) return fileAt(path, context);
  if (kind.isDirectory()) {
    return { type: 'directory', entries: () => attempt(path, () => entriesOf(path, context)) };
  }
  if (kind.isSymbolicLink()) {
    return { type: 'symlink', target: readlinkSync(path, { encoding: 'buffer' }) };
  }
  throw unpackable(path, 'expected a regular file, directory or symlink, got another type');
}

function entriesOf(path: Buffer, context: Context): NarNodeEntries {
  const packed = new Map<string, Buffer>();
  return readdirSync(path, { encoding: 'buffer', withFileTypes: true }).map((entry) => {
    const entryPath = Buffer.concat([path, Buffer.from('/'), entry.name]);
    const name = context.caseHack ? unhacked(entry.name) : entry.name;
    if (context.caseHack) {
      const key = name.toString('latin1');
      const other = packed.get(key);
      if (other !== undefined) {
        const names = `${quote(narText(other))} and ${quote(narText(entry.name))}`;
        throw unpackable(path, `${names} are the same name without the case hack`);
      }
      packed.set(key, entry.name);
    }
    return [name, () => attempt(entryPath, () => nodeAt(entryPath, entry, context))];
  });
}

/** Returns the name up to Nix's marker, wherever the marker is. */
function unhacked(name: Buffer): Buffer {
  const at = name.indexOf(caseHackMarker);
  return at === -1 ? name : name.subarray(0, at);
}

function fileAt(path: Buffer, context: Context): NarNode {
  const file = openSync(path, openFlags);
  let streaming = false;
  try {
    const stats = fstatSync(file);
    if (!stats.isFile()) throw changed(path);
    const { size } = stats;
    const executable = (stats.mode & constants.S_IXUSR) !== 0;
    if (size <= wholeFileBytes) {
      const bytes = readWhole(path, file, size);
      return { type: 'regular', executable, size, contents: () => bytes };
    }
    streaming = true;
    return { type: 'regular', executable, size, contents: () => blocks(path, file, size, context) };
  } finally {
    if (!streaming) closeSync(file);
  }
}

function readWhole(path: Buffer, file: number, size: number): Buffer {
  // One byte more than expected, to detect that the file has grown.
  const buffer = Buffer.allocUnsafe(size + 1);
  let filled = 0;
  while (filled < buffer.length) {
    const count = readSync(file, buffer, filled, buffer.length - filled, null);
    if (count === 0) break;
    filled += count;
  }
  if (filled !== size) throw changed(path);
  return buffer.subarray(0, size);
}

/** Yields the contents of a large file, then closes it. */
async function* blocks(
  path: Buffer,
  file: number,
  size: number,
  { signal }: Context,
): AsyncGenerator<Uint8Array> {
  const readBlock = async (position: number): Promise<Buffer> => {
    const buffer = Buffer.allocUnsafe(Math.min(blockBytes, size + 1 - position));
    const { bytesRead } = await readAsync(file, buffer, 0, buffer.length, position);
    return buffer.subarray(0, bytesRead);
  };
  let ahead: Promise<Buffer> | undefined;
  try {
    let position = 0;
    ahead = readBlock(0);
    while (true) {
      const block = await ahead;
      ahead = undefined;
      assertNotAborted(path, signal);
      position += block.length;
      if (position > size || (block.length === 0 && position < size)) throw changed(path);
      if (block.length === 0) return;
      ahead = readBlock(position);
      // The next turn awaits it; without a next turn its failure does not matter.
      ahead.catch(() => undefined);
      yield block;
    }
  } catch (error) {
    throw packError(path, error);
  } finally {
    await ahead?.catch(() => undefined);
    closeSync(file);
  }
}

function attempt<T>(path: Buffer, action: () => T): T {
  try {
    return action();
  } catch (error) {
    throw packError(path, error);
  }
}

function assertNotAborted(path: Buffer, signal: AbortSignal | undefined): void {
  if (signal?.aborted !== true) return;
  const what = quote(narText(path));
  throw new NicheError('aborted', `aborted while packing ${what}`, { cause: signal.reason });
}

function packError(path: Buffer, error: unknown): NicheError {
  if (error instanceof NicheError) return error;
  const isMissing = error instanceof Error && 'code' in error && error.code === 'ENOENT';
  const message = `cannot pack ${quote(narText(path))}: ${messageOf(error)}`;
  return new NicheError(isMissing ? 'not-found' : 'unpackable', message, { cause: error });
}

function changed(path: Buffer): NicheError {
  return unpackable(path, 'the file changed while it was read');
}

function unpackable(path: Buffer, why: string): NicheError {
  return new NicheError('unpackable', `cannot pack ${quote(narText(path))}: ${why}`);
}
