import { createHash } from 'node:crypto';
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
  readonly hash: Hash;
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

  const startObject = (type: 'blob' | 'tree', size: number): Hash =>
    createHash(algorithm).update(`${type} ${size}\0`);

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

  function finishBlob(): void {
    if (!blob || blob.left > 0) return;
    const { name, mode, hash } = blob;
    blob = null;
    addEntry(name, mode, hash.digest());
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
      addEntry(tree.name, '40000', startObject('tree', entries.length).update(entries).digest());
    },
    regular(name, { executable, size }) {
      const mode = executable ? '100755' : '100644';
      blob = { hash: startObject('blob', size), name: Buffer.from(name), mode, left: size };
      finishBlob();
    },
    contents(piece) {
      if (!blob) return;
      blob.hash.update(piece);
      blob.left -= piece.length;
      finishBlob();
    },
    symlink(name, target) {
      const digest = startObject('blob', target.length).update(target).digest();
      addEntry(Buffer.from(name), '120000', digest);
    },
    digest: () => root,
  };
}

const slash = Buffer.from('/');

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
