import { createHash, hash } from 'node:crypto';
import type { Hash } from 'node:crypto';

import { NicheError } from '../errors.ts';
import { maxGitTreeBytes } from '../limits.ts';
import type { HashAlgorithm } from './hash.ts';
import type { NarHandler } from './nar-parser.ts';

/** A handler that computes the Git hash of the NAR that a parser reads. */
export interface GitHasher extends NarHandler {
  /**
   * Returns the digest of the root, after the parser's `end` has returned. As in Nix, the mode of a
   * root that is not a directory is not hashed.
   */
  digest(): Uint8Array;
}

type Mode = '40000' | '100644' | '100755' | '120000';

/** A file whose contents are still arriving. */
interface OpenBlob {
  readonly name: Buffer;
  readonly mode: Mode;
  /** In bytes. */
  readonly size: number;
  /** Null until the first piece that is not the whole file. */
  hash: Hash | null;
  /** In bytes. */
  left: number;
}

/** A directory whose entries are still arriving. */
interface OpenTree {
  readonly name: Buffer;
  /** Its entries so far, in Git's order. */
  readonly body: ByteList;
  /** Subdirectories that may still have to follow files, the next one last. */
  readonly delayed: { readonly key: Buffer; readonly entry: Buffer }[];
}

/**
 * Creates a hasher of Git blobs and trees (dumpHash in Nix's git.cc). Unlike in a repository, empty
 * directories count. The handler throws `too-large` beyond {@link maxGitTreeBytes}.
 *
 * @param algorithm of Git objects: sha1 or sha256
 */
export function createGitHasher(algorithm: HashAlgorithm): GitHasher {
  const open: OpenTree[] = [];
  /** Bytes of the entries in `open`. */
  let heldBytes = 0;
  let blob: OpenBlob | null = null;
  let root: Uint8Array = new Uint8Array();

  const header = (type: 'blob' | 'tree', size: number): Buffer => Buffer.from(`${type} ${size}\0`);

  /** Hashes a whole object. For a small one, `hash` takes a fraction of the time of a `Hash`. */
  const hashObject = (type: 'blob' | 'tree', body: Uint8Array): Buffer =>
    body.length <= maxWholeBytes
      ? hash(algorithm, Buffer.concat([header(type, body.length), body]), 'buffer')
      : createHash(algorithm).update(header(type, body.length)).update(body).digest();

  function addEntry(name: Buffer, mode: Mode, digest: Buffer): void {
    const tree = open.at(-1);
    if (!tree) {
      root = digest;
      return;
    }
    const entry = Buffer.concat([Buffer.from(`${mode} `), name, Buffer.of(0), digest]);
    heldBytes += entry.length;
    if (heldBytes > maxGitTreeBytes) {
      throw new NicheError(
        'too-large',
        `the directories of a NAR are too large for a Git hash: expected at most ${maxGitTreeBytes} bytes of entries`,
      );
    }
    flushDelayed(tree, name);
    if (mode === '40000') tree.delayed.push({ key: Buffer.concat([name, slash]), entry });
    else tree.body.append(entry);
  }

  function updateBlob(found: OpenBlob, piece: Uint8Array): void {
    const { name, mode, size } = found;
    found.left -= piece.length;
    if (piece.length === size) {
      addEntry(name, mode, hashObject('blob', piece));
      return;
    }
    found.hash ??= createHash(algorithm).update(header('blob', size));
    found.hash.update(piece);
    if (found.left === 0) addEntry(name, mode, found.hash.digest());
  }

  return {
    directory(name) {
      open.push({ name: Buffer.from(name), body: createByteList(), delayed: [] });
    },
    leave() {
      const tree = open.pop();
      if (!tree) return;
      flushDelayed(tree, null);
      const entries = tree.body.bytes();
      heldBytes -= entries.length;
      addEntry(tree.name, '40000', hashObject('tree', entries));
    },
    regular(name, { executable, size }) {
      const mode = executable ? '100755' : '100644';
      blob = { name: Buffer.from(name), mode, size, hash: null, left: size };
      // The contents of an empty file follow in no piece.
      if (size === 0) updateBlob(blob, nothing);
    },
    contents(piece) {
      if (blob) updateBlob(blob, piece);
    },
    symlink(name, target) {
      addEntry(Buffer.from(name), '120000', hashObject('blob', target));
    },
    digest: () => root,
  };
}

const slash = Buffer.from('/');
const nothing = new Uint8Array();
/** The largest file that is hashed at once, in bytes: it is copied for that. */
const maxWholeBytes = 64 * 1024;

/**
 * Moves the delayed subdirectories that sort before every later entry to the body. Git sorts a
 * directory as if its name ended in a slash, so `a-b` and `a.b` precede the directory `a`, which comes
 * first in a NAR. Each delayed name begins with the one before it, so the last one sorts first.
 *
 * @param next the name of the next entry; null at the end
 */
function flushDelayed({ body, delayed }: OpenTree, next: Buffer | null): void {
  for (let last = delayed.at(-1); last; last = delayed.at(-1)) {
    if (next !== null && last.key.compare(next) > 0) return;
    body.append(last.entry);
    delayed.pop();
  }
}

interface ByteList {
  append(bytes: Uint8Array): void;
  bytes(): Uint8Array;
}

/** An array of buffers would take several times the memory of their bytes. */
function createByteList(): ByteList {
  let buffer = Buffer.alloc(256);
  let length = 0;
  return {
    append(bytes) {
      if (length + bytes.length > buffer.length) {
        const larger = Buffer.alloc(Math.max(2 * buffer.length, length + bytes.length));
        buffer.copy(larger, 0, 0, length);
        buffer = larger;
      }
      buffer.set(bytes, length);
      length += bytes.length;
    },
    bytes: () => buffer.subarray(0, length),
  };
}
