import { randomUUID } from 'node:crypto';
import {
  closeSync,
  constants,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  unlinkSync,
  write,
  writeSync,
  type BigIntStats,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { NicheError, quote } from '../../errors.ts';
import type { PutOutcome } from '../bucket.ts';
import { fileError } from './errors.ts';
import { isErrno } from '../../util/errno.ts';
import { inFolder } from './folder.ts';
import { withLock } from './lock.ts';
import { objectInfo, type FileRoot } from './root.ts';
import { syncFile, syncFolder } from './fsync.ts';
import { findTemporaryFolder, openTemporaryFolder } from './temporary-folder.ts';

/** Other processes may delete an emptied folder between its creation and the link, repeatedly. */
const maxPublishAttempts = 100;

/** Up to this size, in bytes, a write takes no longer than handing it to the thread pool. */
export const smallBytes = 256 * 1024;

const writeLater = promisify(write);

/** A file without a key yet. */
export interface Temporary {
  readonly path: string;
  /** Its descriptor; null once it is closed. */
  fd: number | null;
}

export async function createTemporary(root: FileRoot): Promise<Temporary> {
  const path = join(await openTemporaryFolder(root), `${process.pid}-${randomUUID()}`);
  // O_EXCL follows no link.
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL;
  return { path, fd: openSync(path, flags, 0o666) };
}

export async function writeAll(temporary: Temporary, bytes: Uint8Array): Promise<void> {
  const fd = descriptor(temporary);
  for (let written = 0; written < bytes.length;) {
    if (bytes.length <= smallBytes) written += writeSync(fd, bytes, written);
    else written += (await writeLater(fd, bytes, written)).bytesWritten;
  }
}

/** Creates a temporary file with these contents; leaves nothing after a failure. */
export async function writeTemporary(root: FileRoot, bytes: Uint8Array): Promise<Temporary> {
  const temporary = await createTemporary(root);
  try {
    await writeAll(temporary, bytes);
    return temporary;
  } catch (error) {
    discardQuietly(temporary);
    throw error;
  }
}

/** Flushes it to the disk. */
export function syncTemporary(temporary: Temporary): Promise<void> {
  return syncFile(descriptor(temporary));
}

/** Closes and removes it, if it still exists. */
export function discard(temporary: Temporary): void {
  close(temporary);
  removeIfThere(temporary.path);
}

/** Does {@link discard} after a failure, and ignores its own: a sweep removes the rest. */
export function discardQuietly(temporary: Temporary): void {
  try {
    discard(temporary);
  } catch {
    // The first failure is the one to report.
  }
}

function descriptor({ fd, path }: Temporary): number {
  if (fd === null) throw new NicheError('internal', `${path} is closed`);
  return fd;
}

function close(temporary: Temporary): void {
  const { fd } = temporary;
  if (fd === null) return;
  // Even if closing fails, the descriptor is gone and may soon be another file's.
  temporary.fd = null;
  closeSync(fd);
}

/**
 * Flushes a complete file to the disk, makes it visible under `key` atomically, and ends it.
 *
 * @param path the file of `key`
 */
export async function publish(
  root: FileRoot,
  temporary: Temporary,
  key: string,
  path: string,
  ifAbsent: boolean,
): Promise<PutOutcome> {
  await syncTemporary(temporary);
  const outcome = await reveal(root, temporary, key, ifAbsent);
  await syncFolder(dirname(path));
  return outcome;
}

/**
 * Does {@link publish} without flushing: the caller syncs the file before, and the folder after. The
 * folder also where the object existed, as its writer may not have synced it yet.
 */
export async function reveal(
  root: FileRoot,
  temporary: Temporary,
  key: string,
  ifAbsent: boolean,
): Promise<PutOutcome> {
  if (ifAbsent) return revealUnlocked(root, temporary, key, true);
  const action = `writing ${quote(key)} in ${root.url}`;
  return withLock({ root, key, action }, () => revealUnlocked(root, temporary, key, false));
}

/** Does {@link reveal} for a caller who holds the lock of the key, or who creates the object. */
export async function revealUnlocked(
  root: FileRoot,
  temporary: Temporary,
  key: string,
  ifAbsent: boolean,
): Promise<PutOutcome> {
  close(temporary);
  for (let attempt = 1; attempt <= maxPublishAttempts; attempt += 1) {
    try {
      const change = ifAbsent ? linkSync : renameSync;
      inFolder(root, key, (target) => {
        change(temporary.path, target);
      });
    } catch (error) {
      if (ifAbsent && isErrno(error, 'EEXIST')) {
        const outcome = outcomeOfFailedLink(root, temporary, key);
        if (outcome === null) continue;
        removeIfThere(temporary.path);
        return outcome;
      }
      if (!isErrno(error, 'ENOENT')) throw error;
      await makeParents(root, key);
      assertStillThere(root, temporary, key);
      continue;
    }
    if (ifAbsent) removeIfThere(temporary.path);
    return 'created';
  }
  throw new NicheError(
    'storage-unavailable',
    `writing ${quote(key)} in ${root.url} failed: its folder was deleted ${maxPublishAttempts} times meanwhile`,
  );
}

function assertStillThere(root: FileRoot, { path }: Temporary, key: string): void {
  try {
    lstatSync(path);
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error;
    throw new NicheError(
      'storage-unavailable',
      `writing ${quote(key)} in ${root.url} failed: the unfinished upload was removed meanwhile`,
      { cause: error },
    );
  }
}

/** Decides whose object made the link fail; `null` if it is gone again. */
function outcomeOfFailedLink(root: FileRoot, temporary: Temporary, key: string): PutOutcome | null {
  const ours = statIfThere(temporary.path);
  const theirs = inFolder(root, key, statIfThere);
  if (!theirs) return null;
  if (objectInfo(root, key, theirs) === null) {
    throw new NicheError(
      'invalid-key',
      `writing ${quote(key)} in ${root.url} failed: a folder has the name of the object`,
    );
  }
  // A file server may repeat a link after a lost response, and then find its own.
  return ours?.ino === theirs.ino ? 'created' : 'exists';
}

function statIfThere(path: string): BigIntStats | undefined {
  return lstatSync(path, { bigint: true, throwIfNoEntry: false });
}

/** Creates the folders of `key`, never the root itself: a deleted root stays deleted. */
async function makeParents(root: FileRoot, key: string): Promise<void> {
  root.check();
  const segments = key.split('/');
  for (let depth = 1; depth < segments.length; depth += 1) {
    try {
      await makeFolder(root, segments.slice(0, depth).join('/'));
    } catch (error) {
      // The folder above was pruned meanwhile: the caller tries again.
      if (isErrno(error, 'ENOENT')) return;
      throw error;
    }
  }
}

async function makeFolder(root: FileRoot, folder: string): Promise<void> {
  try {
    inFolder(root, folder, (path) => {
      mkdirSync(path);
    });
  } catch (error) {
    if (isErrno(error, 'EEXIST')) return;
    throw error;
  }
  await syncFolder(dirname(join(root.path, folder)));
}

/**
 * Removes unfinished uploads of this process and others.
 *
 * @returns the number of removed files
 * @throws NicheError `storage-denied`, `storage-unavailable`
 */
export function sweepTemporaries(root: FileRoot, olderThan: Date): number {
  root.check();
  const action = `removing unfinished uploads in ${root.url}`;
  let removed = 0;
  try {
    const folder = findTemporaryFolder(root);
    if (folder === null) return 0;
    for (const name of readdirSync(folder)) {
      const path = join(folder, name);
      const found = statIfThere(path);
      // niche creates no folders there.
      if (!found || found.mtime >= olderThan || found.isDirectory()) continue;
      removeIfThere(path);
      removed += 1;
    }
  } catch (error) {
    throw fileError(error, action);
  }
  return removed;
}

function removeIfThere(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error;
  }
}
