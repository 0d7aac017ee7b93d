import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import {
  link,
  lstat,
  mkdir,
  open,
  readdir,
  rename,
  rmdir,
  unlink,
  type FileHandle,
} from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { NicheError, quote } from '../errors.ts';
import type { PutOutcome } from './bucket.ts';
import { fileError, isErrno } from './file-errors.ts';
import { objectInfo, temporaryFolder, type FileRoot } from './file-root.ts';
import { syncFolder } from './file-sync.ts';

/** Others may delete an emptied folder between its creation and the link, over and over. */
const maxPublishAttempts = 100;

/** A file that no key leads to yet. */
interface Temporary {
  readonly path: string;
  readonly handle: FileHandle;
}

export async function createTemporary(root: FileRoot): Promise<Temporary> {
  const folder = join(root.path, temporaryFolder);
  const path = join(folder, `${process.pid}-${randomUUID()}`);
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL;
  try {
    return { path, handle: await open(path, flags, 0o666) };
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error;
  }
  await root.check();
  await makeFolder(folder);
  return { path, handle: await open(path, flags, 0o666) };
}

export async function writeAll(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let written = 0; written < bytes.length;) {
    const { bytesWritten } = await handle.write(bytes, written);
    written += bytesWritten;
  }
}

/** Closes and removes it, if it is still there. */
export async function discard({ handle, path }: Temporary): Promise<void> {
  await handle.close();
  await removeIfThere(path);
}

/**
 * Makes a whole file visible under `key` at once, on the disk before that, and ends it.
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
  await temporary.handle.sync();
  await temporary.handle.close();
  for (let attempt = 1; attempt <= maxPublishAttempts; attempt += 1) {
    try {
      await (ifAbsent ? link(temporary.path, path) : rename(temporary.path, path));
    } catch (error) {
      if (ifAbsent && isErrno(error, 'EEXIST')) {
        const outcome = await settle(root, temporary, key, path);
        if (outcome === null) continue;
        await removeIfThere(temporary.path);
        return outcome;
      }
      if (!isErrno(error, 'ENOENT')) throw error;
      await makeParents(root, key);
      await assertStillThere(root, temporary, key);
      continue;
    }
    await syncFolder(dirname(path));
    if (ifAbsent) await removeIfThere(temporary.path);
    return 'created';
  }
  throw new NicheError(
    'storage-unavailable',
    `writing ${quote(key)} in ${root.url} failed: its folder was deleted ${maxPublishAttempts} times meanwhile`,
  );
}

async function assertStillThere(root: FileRoot, { path }: Temporary, key: string): Promise<void> {
  try {
    await lstat(path);
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error;
    throw new NicheError(
      'storage-unavailable',
      `writing ${quote(key)} in ${root.url} failed: the unfinished upload was removed meanwhile`,
      { cause: error },
    );
  }
}

/** Whose the object is for which a link failed; `null` if it is gone again. */
async function settle(
  root: FileRoot,
  temporary: Temporary,
  key: string,
  path: string,
): Promise<PutOutcome | null> {
  const [ours, theirs] = await Promise.all(
    [temporary.path, path].map((file) => lstat(file, { bigint: true }).catch(nullIfMissing)),
  );
  if (!theirs) return null;
  if (objectInfo(root, key, theirs) === null) {
    throw new NicheError(
      'invalid-key',
      `writing ${quote(key)} in ${root.url} failed: a folder of that name is in the way`,
    );
  }
  // Whoever made it may not have come to this yet, and a caller relies on what exists.
  await syncFolder(dirname(path));
  // A file server may repeat a link whose answer was lost, and then find its own.
  return ours?.ino === theirs.ino ? 'created' : 'exists';
}

function nullIfMissing(error: unknown): null {
  if (isErrno(error, 'ENOENT')) return null;
  throw error;
}

/** Never makes the root itself: what is gone stays gone. */
async function makeParents(root: FileRoot, key: string): Promise<void> {
  await root.check();
  const segments = key.split('/');
  for (let depth = 1; depth < segments.length; depth += 1) {
    try {
      await makeFolder(join(root.path, ...segments.slice(0, depth)));
    } catch (error) {
      // Someone pruned the folder above meanwhile: the caller tries again.
      if (isErrno(error, 'ENOENT')) return;
      throw error;
    }
  }
}

async function makeFolder(path: string): Promise<void> {
  try {
    await mkdir(path);
  } catch (error) {
    if (isErrno(error, 'EEXIST')) return;
    throw error;
  }
  await syncFolder(dirname(path));
}

/**
 * Removes what unfinished uploads have left, of this process and others.
 *
 * @returns how many
 */
export async function sweepTemporaries(root: FileRoot, olderThan: Date): Promise<number> {
  await root.check();
  const folder = join(root.path, temporaryFolder);
  let removed = 0;
  try {
    for (const name of await readdir(folder)) {
      const path = join(folder, name);
      const found = await lstat(path).catch(nullIfMissing);
      if (found === null || found.mtime >= olderThan) continue;
      // The lock of a replacement whose process died is a folder.
      await (found.isDirectory() ? rmdir(path) : removeIfThere(path));
      removed += 1;
    }
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) {
      throw fileError(error, `removing unfinished uploads in ${root.url}`);
    }
  }
  return removed;
}

async function removeIfThere(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error;
  }
}
