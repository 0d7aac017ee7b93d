import { closeSync, constants, fdatasync, fsync, openSync } from 'node:fs';
import { promisify } from 'node:util';
import { isErrno } from '../../util/errno.ts';

const fsyncLater = promisify(fsync);

/** Flushes an open file to the disk. Concurrent calls share the disk's work. */
export const syncFile = promisify(fdatasync);

const running = new Map<string, Promise<void>>();
const queued = new Map<string, Promise<void>>();

/**
 * Makes the names in a folder survive a loss of power, where the file system supports that. Calls
 * during a sync share the next one, as only a sync that begins after them is sure to cover them.
 */
export function syncFolder(path: string): Promise<void> {
  const shared = queued.get(path);
  if (shared !== undefined) return shared;
  const before = running.get(path);
  if (before === undefined) return begin(path);
  const next = before
    .catch(() => undefined)
    .then(() => {
      queued.delete(path);
      return begin(path);
    });
  queued.set(path, next);
  return next;
}

function begin(path: string): Promise<void> {
  const sync = syncNow(path).finally(() => running.delete(path));
  running.set(path, sync);
  return sync;
}

async function syncNow(path: string): Promise<void> {
  try {
    const folder = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
    try {
      await fsyncLater(folder);
    } finally {
      closeSync(folder);
    }
  } catch (error) {
    // Deleted meanwhile, writable but not readable, or on a file system that syncs no folders.
    if (!isErrno(error, 'ENOENT', 'EACCES', 'EINVAL', 'ENOTSUP')) throw error;
  }
}
