import { hash } from 'node:crypto';
import { mkdirSync, renameSync, rmdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { NicheError, quote } from '../../errors.ts';
import { throwIfAborted } from '../../util/abort.ts';
import type { ObjectOptions, ReplaceOutcome } from '../bucket.ts';
import { fileError } from './errors.ts';
import { isErrno } from '../../util/errno.ts';
import { statObject, temporaryFolder, type FileRoot } from './root.ts';
import { syncFolder } from './fsync.ts';
import { discard, discardQuietly, reveal, syncTemporary, writeTemporary } from './temporary.ts';

/** A lock older than this, in milliseconds, belongs to a process that died. */
const lockLifetimeMs = 30_000;

/** The time between two attempts to take a lock, in milliseconds. */
const lockPollMs = 20;

/**
 * Implements {@link Bucket.replace} for a directory. File systems have no "rename if unchanged", so
 * writers of one key take turns, with a lock among the temporary files.
 *
 * @param path the file of `key`
 * @throws NicheError `storage-unavailable`, `storage-denied`, `storage-full`, `aborted`
 */
export async function replaceFile(
  root: FileRoot,
  key: string,
  path: string,
  body: Uint8Array,
  etag: string,
  options: ObjectOptions | undefined,
): Promise<ReplaceOutcome> {
  const action = `replacing ${quote(key)} in ${root.url}`;
  try {
    const temporary = await writeTemporary(root, body);
    try {
      // Outside the lock: a disk may take longer than other writers wait.
      await syncTemporary(temporary);
      const lock = await takeLock(root, key, action, options?.signal);
      let isReplaced = false;
      try {
        if (statObject(root, key, path)?.etag === etag) {
          await reveal(root, temporary, key, path, false);
          isReplaced = true;
        }
      } finally {
        removeFolder(lock);
      }
      if (isReplaced) await syncFolder(dirname(path));
      else discard(temporary);
      return isReplaced ? 'replaced' : 'changed';
    } catch (error) {
      discardQuietly(temporary);
      throw error;
    }
  } catch (error) {
    throw fileError(error, action);
  }
}

/** Returns the lock's path. It is a folder, since creating one is atomic. */
async function takeLock(
  root: FileRoot,
  key: string,
  action: string,
  signal: AbortSignal | undefined,
): Promise<string> {
  const name = hash('sha256', key, 'hex').slice(0, 32);
  const lock = join(root.path, temporaryFolder, `replace-${name}`);
  const giveUpAt = Date.now() + 2 * lockLifetimeMs;
  for (;;) {
    throwIfAborted(signal, action);
    try {
      mkdirSync(lock);
      return lock;
    } catch (error) {
      if (!isErrno(error, 'EEXIST')) throw error;
    }
    if (Date.now() > giveUpAt) {
      throw new NicheError(
        'storage-unavailable',
        `${action} failed: other writers keep replacing it`,
      );
    }
    if (isStale(lock)) {
      // Of several processes that see a stale lock, one moves it away; the others have nothing to move.
      const aside = `${lock}.${process.pid}.${Date.now()}`;
      try {
        renameSync(lock, aside);
        removeFolder(aside);
      } catch (error) {
        ignoreMissing(error);
      }
    } else {
      await sleep(lockPollMs);
    }
  }
}

function isStale(lock: string): boolean {
  try {
    return Date.now() - statSync(lock).mtimeMs > lockLifetimeMs;
  } catch (error) {
    ignoreMissing(error);
    return false;
  }
}

function removeFolder(lock: string): void {
  try {
    rmdirSync(lock);
  } catch (error) {
    ignoreMissing(error);
  }
}

function ignoreMissing(error: unknown): void {
  if (!isErrno(error, 'ENOENT')) throw error;
}
