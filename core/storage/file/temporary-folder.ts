import { chmodSync, lstatSync, mkdirSync, type Stats } from 'node:fs';
import { join } from 'node:path';
import { NicheError } from '../../errors.ts';
import { isErrno } from '../../util/errno.ts';
import { syncFolder } from './fsync.ts';
import { temporaryFolder, type FileRoot } from './root.ts';

const stickyBit = 0o1000;
const othersMayWrite = 0o022;

/**
 * Returns the path of the folder for unfinished files and locks, and creates it where it is missing.
 * Call it before each use: other users who may write to the bucket's directory could put a link there.
 *
 * @throws NicheError `storage-denied` where an untrusted user could change what is in it,
 *   `storage-unavailable` where the bucket's directory is missing; the system's errors
 */
export async function openTemporaryFolder(root: FileRoot): Promise<string> {
  root.checkOnce();
  const found = findTemporaryFolder(root);
  if (found !== null) return found;
  root.check();
  const path = temporaryPath(root);
  try {
    mkdirSync(path);
    // The umask would shut out the other users of a shared directory.
    if (root.isShared()) chmodSync(path, lstatSync(root.path).mode & 0o7777);
  } catch (error) {
    if (!isErrno(error, 'EEXIST')) throw error;
  }
  assertSafe(root, lstatSync(path));
  await syncFolder(root.path);
  return path;
}

/**
 * Returns the path of that folder; null where it is missing.
 *
 * @throws NicheError `storage-denied`, as {@link openTemporaryFolder}
 */
export function findTemporaryFolder(root: FileRoot): string | null {
  const path = temporaryPath(root);
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return null;
  assertSafe(root, found);
  return path;
}

function temporaryPath(root: FileRoot): string {
  return join(root.path, temporaryFolder);
}

function assertSafe(root: FileRoot, found: Stats): void {
  const why = whyUnsafe(root, found);
  if (why === null) return;
  throw new NicheError(
    'storage-denied',
    `opening ${temporaryFolder} in ${root.url} failed: ${why}`,
    { hint: `remove ${temporaryPath(root)}; niche creates it again` },
  );
}

function whyUnsafe(root: FileRoot, found: Stats): string | null {
  if (!found.isDirectory()) return 'expected a folder, got a link or a file';
  if (!root.isShared()) return null;
  if (!root.isTrusted(found.uid)) return 'it belongs to another user';
  const isExclusive = (found.mode & othersMayWrite) === 0 || (found.mode & stickyBit) !== 0;
  return isExclusive ? null : 'users who share the directory may replace each other’s files';
}
