import { closeSync, constants, existsSync, lstatSync, openSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { quote } from '../../errors.ts';
import { isErrno } from '../../util/errno.ts';
import type { ListedObject } from '../bucket.ts';
import { fileError } from './errors.ts';
import { isAbsence, objectInfo, refuseLinks, type FileRoot } from './root.ts';

/** Opens a folder only to use it as the start of paths, without the right to read it. */
const pathOnly = 0o10000000;

const hasProc = process.platform === 'linux' && existsSync('/proc/self/fd');

/** A folder of a bucket, reached without symbolic links. */
export interface OpenFolder {
  /** Valid until `close`. */
  readonly path: string;
  close(): void;
}

/**
 * Opens a folder of the bucket. Other users may replace a folder of theirs with a link at any moment,
 * which would lead out of the bucket. On Linux, a path through an open folder cannot be changed.
 * Elsewhere, a link that is created just after the check is followed.
 *
 * @param folder relative to the root; empty for the root itself
 * @throws NicheError `storage-denied` for a link; the system's errors, such as ENOENT
 */
export function openFolder(root: FileRoot, folder: string): OpenFolder {
  const path = join(root.path, folder);
  if (folder === '') return { path, close: () => undefined };
  if (!hasProc) {
    refuseLinks(root, folder);
    return { path, close: () => undefined };
  }
  const fd = openPath(root, folder, path);
  try {
    if (!isAt(root, folder, fd)) {
      // The root may be behind a link that has changed.
      root.check();
      if (!isAt(root, folder, fd)) throw noLonger(root, folder);
    }
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  return {
    path: `/proc/self/fd/${fd}`,
    close() {
      closeSync(fd);
    },
  };
}

/** Calls `work` with a path of the file of `key`, as {@link openFolder} describes. */
export function inFolder<T>(root: FileRoot, key: string, work: (path: string) => T): T {
  const { folder, name } = splitKey(key);
  const opened = openFolder(root, folder);
  try {
    return work(join(opened.path, name));
  } finally {
    opened.close();
  }
}

/**
 * Returns the object under `key`; `null` means missing in an existing root.
 *
 * @throws NicheError `storage-denied`, `storage-unavailable`
 */
export function statObject(root: FileRoot, key: string): ListedObject | null {
  try {
    return objectInfo(
      root,
      key,
      inFolder(root, key, (path) => lstatSync(path, { bigint: true })),
    );
  } catch (error) {
    if (!isAbsence(error)) throw fileError(error, `checking ${quote(key)} in ${root.url}`);
    root.check();
    return null;
  }
}

export function splitKey(key: string): { readonly folder: string; readonly name: string } {
  const slash = key.lastIndexOf('/');
  return { folder: key.slice(0, Math.max(slash, 0)), name: key.slice(slash + 1) };
}

function openPath(root: FileRoot, folder: string, path: string): number {
  try {
    return openSync(path, pathOnly | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  } catch (error) {
    // A link is no folder either.
    if (isErrno(error, 'ENOTDIR')) refuseLinks(root, folder);
    throw error;
  }
}

/** Returns why the opened folder is not at its path: a link led to it, or it was moved or deleted. */
function noLonger(root: FileRoot, folder: string): Error {
  refuseLinks(root, folder);
  return Object.assign(new Error(`${folder} was moved`), { code: 'ENOENT' });
}

function isAt(root: FileRoot, folder: string, fd: number): boolean {
  return readlinkSync(`/proc/self/fd/${fd}`) === join(root.realPath(), folder);
}
