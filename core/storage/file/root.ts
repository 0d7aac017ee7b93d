import { lstatSync, statSync, type BigIntStats, type Stats } from 'node:fs';
import { isAbsolute, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { NicheError, quote } from '../../errors.ts';
import type { ObjectInfo } from '../bucket.ts';
import { fileError } from './errors.ts';
import { isErrno } from '../../util/errno.ts';
import { assertKey } from '../keys.ts';

/** Holds what is being written: in the bucket's own file system, so that it can be linked. */
export const temporaryFolder = '.niche-tmp';

/** At the root of a file system `lost+found` is the kernel's, and readable by root alone. */
const reserved: ReadonlySet<string> = new Set([temporaryFolder, 'lost+found']);

/**
 * The directory that holds a bucket.
 *
 * What is one system call on names alone is made at once, here and in the whole driver: a trip to the
 * thread pool takes ten times as long as the call. What moves many bytes or waits for the disk goes
 * to the pool.
 */
export interface FileRoot {
  readonly path: string;
  readonly url: string;
  /**
   * Ask before anything is called missing, and before a folder is made: a directory that was
   * deleted, or whose disk was unmounted, must not look like an empty bucket.
   *
   * @throws NicheError `storage-unavailable` unless it is there, on the file system it was on
   */
  check(): void;
  /** Begins an operation: the first one checks, so that later checks know the file system. */
  ready(): void;
}

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

  function look(): BigIntStats | undefined {
    try {
      return statSync(path, { bigint: true });
    } catch (error) {
      if (isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined;
      throw fileError(error, `opening the bucket ${url}`);
    }
  }

  function check(): void {
    const found = look();
    if (found?.isDirectory() !== true) {
      throw new NicheError(
        'storage-unavailable',
        `opening the bucket ${url} failed: expected a directory, got ${found ? 'a file' : 'nothing'} there`,
        { hint: 'check the path; for a new cache niche init makes the directory' },
      );
    }
    device ??= found.dev;
    if (found.dev !== device) {
      throw new NicheError(
        'storage-unavailable',
        `opening the bucket ${url} failed: another file system is there than before`,
        { hint: 'mount it again, or start again if this is meant' },
      );
    }
  }

  return {
    path,
    url,
    check,
    ready() {
      if (device === undefined) check();
    },
  };
}

/** Whether `key` lies in a folder of the root that holds no objects. */
export function isReserved(key: string): boolean {
  return reserved.has(key.split('/', 1)[0] ?? '');
}

/**
 * The file that holds `key`, which need not be there.
 *
 * @throws NicheError `invalid-key`; `storage-denied` where a symbolic link would be followed
 */
export function locate(root: FileRoot, key: string): string {
  assertKey(key);
  if (isReserved(key)) {
    throw new NicheError(
      'invalid-key',
      `refusing the object key ${quote(key)}: that folder of ${root.url} holds no objects`,
    );
  }
  root.ready();
  for (let slash = key.indexOf('/'); slash !== -1; slash = key.indexOf('/', slash + 1)) {
    refuseLink(root, key.slice(0, slash));
  }
  return join(root.path, key);
}

function refuseLink(root: FileRoot, folder: string): void {
  let found: Stats | undefined;
  try {
    found = lstatSync(join(root.path, folder), { throwIfNoEntry: false });
  } catch (error) {
    if (!isAbsence(error)) throw fileError(error, `opening ${quote(folder)} in ${root.url}`);
  }
  if (found?.isSymbolicLink() === true) throw notAFile(root, folder);
}

/**
 * What `found` is as an object; `null` for a folder, which is none.
 *
 * @throws NicheError `storage-denied` for a symbolic link, a device, or the like
 */
export function objectInfo(root: FileRoot, key: string, found: BigIntStats): ObjectInfo | null {
  if (found.isDirectory()) return null;
  if (!found.isFile()) throw notAFile(root, key);
  return {
    key,
    size: Number(found.size),
    modified: found.mtime,
    etag: `${found.ino.toString(36)}-${found.size.toString(36)}-${found.mtimeNs.toString(36)}`,
  };
}

/** The object under `key`, whose file is `path`; `null` means missing, and the root is there. */
export function statObject(root: FileRoot, key: string, path: string): ObjectInfo | null {
  try {
    return objectInfo(root, key, lstatSync(path, { bigint: true }));
  } catch (error) {
    if (!isAbsence(error)) throw fileError(error, `looking for ${quote(key)} in ${root.url}`);
    root.check();
    return null;
  }
}

/** Whether `error` says that there is no such file: not there, or no folder on the way to it. */
export function isAbsence(error: unknown): boolean {
  return isErrno(error, 'ENOENT', 'ENOTDIR', 'ENAMETOOLONG');
}

function notAFile(root: FileRoot, key: string): NicheError {
  return new NicheError(
    'storage-denied',
    `refusing ${quote(key)} in ${root.url}: expected a plain file or folder, got a link or a device`,
    { hint: 'symbolic links in a bucket are not followed; mount the directory there instead' },
  );
}
