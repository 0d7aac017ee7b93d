import { lstatSync, realpathSync, statSync, type BigIntStats } from 'node:fs';
import { isAbsolute, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { NicheError, quote } from '../../errors.ts';
import type { ListedObject } from '../bucket.ts';
import { fileError } from './errors.ts';
import { isErrno } from '../../util/errno.ts';
import { assertKey } from '../keys.ts';

/** Holds unfinished files: on the bucket's own file system, so that they can be linked. */
export const temporaryFolder = '.niche-tmp';

/** `lost+found`, at the root of a file system, is readable only by root. */
const reserved: ReadonlySet<string> = new Set([temporaryFolder, 'lost+found']);

/**
 * The directory that holds a bucket.
 *
 * The whole driver makes system calls on names synchronously: handing one to the thread pool takes
 * ten times as long as the call. Calls that move many bytes or wait for the disk go to the pool.
 */
export interface FileRoot {
  readonly path: string;
  readonly url: string;
  /**
   * Checks the directory. Call it before an object counts as missing and before a folder is created:
   * a deleted directory or an unmounted disk must not look like an empty bucket.
   *
   * @throws NicheError `storage-unavailable` unless it exists, on the same file system as before
   */
  check(): void;
  /** Checks the directory before the first operation only, and records its file system. */
  checkOnce(): void;
  /** Returns the directory's path without symbolic links, as the last check found it. */
  realPath(): string;
  /**
   * Whether users who do not trust each other write to the directory: it has the sticky bit, so that
   * each may remove only their own files.
   */
  isShared(): boolean;
  /**
   * Whether files of this user may decide what this process does. In a shared directory those of its
   * owner, of root and of the user of this process may.
   */
  isTrusted(uid: number): boolean;
}

const stickyBit = 0o1000n;

/** @throws NicheError `invalid-url` for a path that is not absolute */
export function fileRoot(directory: string): FileRoot {
  if (!isAbsolute(directory)) {
    throw new NicheError(
      'invalid-url',
      `opening a bucket: expected an absolute directory, got ${quote(directory)}`,
    );
  }
  const path = resolve(directory);
  const { href: url } = pathToFileURL(path);
  let device: bigint | undefined;
  let owner: bigint | undefined;
  let isSticky = false;
  let realPath = path;

  function statRoot(): BigIntStats | undefined {
    try {
      const found = statSync(path, { bigint: true });
      realPath = realpathSync.native(path);
      return found;
    } catch (error) {
      if (isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined;
      throw fileError(error, `opening the bucket ${url}`);
    }
  }

  function check(): void {
    const found = statRoot();
    if (found?.isDirectory() !== true) {
      throw new NicheError(
        'storage-unavailable',
        `opening the bucket ${url} failed: expected a directory, got ${found ? 'a file' : 'nothing'}`,
        { hint: 'check the path; for a new cache, niche init creates the directory' },
      );
    }
    owner = found.uid;
    isSticky = (found.mode & stickyBit) !== 0n;
    device ??= found.dev;
    if (found.dev !== device) {
      throw new NicheError(
        'storage-unavailable',
        `opening the bucket ${url} failed: another file system is mounted there than before`,
        { hint: 'mount the former one again, or restart niche if the change is intended' },
      );
    }
  }

  return {
    path,
    url,
    check,
    checkOnce() {
      if (device === undefined) check();
    },
    realPath: () => realPath,
    isShared: () => isSticky,
    isTrusted: (uid) =>
      !isSticky || uid === 0 || BigInt(uid) === owner || uid === process.geteuid?.(),
  };
}

/** Whether `key` is in a folder of the root that holds no objects. */
export function isReserved(key: string): boolean {
  return reserved.has(key.split('/', 1)[0] ?? '');
}

/**
 * Returns the path of the file for `key`, which need not exist.
 *
 * @throws NicheError `invalid-key`; `storage-denied` where a symbolic link would be followed
 */
export function locate(root: FileRoot, key: string): string {
  assertLocation(root, key);
  refuseLinks(root, key.slice(0, Math.max(key.lastIndexOf('/'), 0)));
  return join(root.path, key);
}

/** @throws NicheError `invalid-key`; `storage-unavailable` without the directory */
export function assertLocation(root: FileRoot, key: string): void {
  assertKey(key);
  if (isReserved(key)) {
    throw new NicheError(
      'invalid-key',
      `invalid object key ${quote(key)}: that folder of ${root.url} is reserved`,
    );
  }
  root.checkOnce();
}

/** @throws NicheError `storage-denied` if `folder`, or one above it, is a symbolic link */
export function refuseLinks(root: FileRoot, folder: string): void {
  const link = findLink(root, folder);
  if (link !== null) throw notAFile(root, link);
}

/** Returns the first folder down to `folder` that is a symbolic link. */
export function findLink(root: FileRoot, folder: string): string | null {
  const segments = folder === '' ? [] : folder.split('/');
  try {
    for (let depth = 1; depth <= segments.length; depth += 1) {
      const each = segments.slice(0, depth).join('/');
      const found = lstatSync(join(root.path, each), { throwIfNoEntry: false });
      if (found?.isSymbolicLink() === true) return each;
    }
  } catch (error) {
    if (!isAbsence(error)) throw fileError(error, `opening ${quote(folder)} in ${root.url}`);
  }
  return null;
}

/**
 * Returns `found` as an object; `null` for a folder, which is none.
 *
 * @throws NicheError `storage-denied` for a symbolic link, a device, or the like
 */
export function objectInfo(root: FileRoot, key: string, found: BigIntStats): ListedObject | null {
  if (found.isDirectory()) return null;
  if (!found.isFile()) throw notAFile(root, key);
  return {
    key,
    size: Number(found.size),
    modified: found.mtime,
    etag: `${found.ino.toString(36)}-${found.size.toString(36)}-${found.mtimeNs.toString(36)}`,
  };
}

/** Whether `error` means that there is no such file, or no folder on the way to it. */
export function isAbsence(error: unknown): boolean {
  return isErrno(error, 'ENOENT', 'ENOTDIR', 'ENAMETOOLONG');
}

function notAFile(root: FileRoot, key: string): NicheError {
  return new NicheError(
    'storage-denied',
    `reading ${quote(key)} in ${root.url} failed: expected a file or a folder, got a link or a device`,
    { hint: 'niche follows no symbolic links in a bucket; mount the directory there instead' },
  );
}
