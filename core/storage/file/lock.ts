import { hash } from 'node:crypto';
import { lstatSync, readlinkSync, symlinkSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { NicheError } from '../../errors.ts';
import { throwIfAborted } from '../../util/abort.ts';
import { isErrno } from '../../util/errno.ts';
import { identifyProcess } from '../../util/process-identity.ts';
import type { FileRoot } from './root.ts';
import { openTemporaryFolder } from './temporary-folder.ts';

/** A process that has ended loses its lock once another has waited this long, in milliseconds. */
const endedGraceMs = 500;

/** So does a process of another machine or container, which may or may not have ended. */
const unknownGraceMs = 30_000;

/** The longest wait for a lock, in milliseconds. */
const maxWaitMs = 90_000;

/** The longest time between two attempts to take a lock, in milliseconds. */
const maxPollMs = 20;

export interface LockOptions {
  readonly root: FileRoot;
  readonly key: string;
  /** For errors: `replacing "nar/…" in file:///…`. */
  readonly action: string;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Runs `work` while nothing else replaces or deletes the object under `key`: no other call, and no
 * other process. File systems have no "rename if unchanged". Creating an object takes no lock, since
 * `link` never replaces.
 *
 * A lock is a symbolic link among the temporary files, whose target names its owner. One system call
 * creates both, and a target below 60 bytes takes no block of a disk that may be full.
 *
 * @param work should be short, as others wait for it
 * @throws NicheError `storage-unavailable` when others hold the lock for too long, `aborted`; the
 *   system's errors; those of `work`
 */
export async function withLock<T>(options: LockOptions, work: () => T | Promise<T>): Promise<T> {
  const folder = await openTemporaryFolder(options.root);
  return withLockAt(lockPath(folder, options.key), options, work);
}

async function withLockAt<T>(
  lock: string,
  options: LockOptions,
  work: () => T | Promise<T>,
): Promise<T> {
  const owner = newOwner();
  await takeLock(lock, owner, options);
  try {
    return await work();
  } finally {
    // Another machine takes the lock of a process that was suspended for long.
    if (holderOf(lock)?.owner === owner) unlinkSync(lock);
  }
}

function lockPath(folder: string, name: string): string {
  return join(folder, `lock-${hash('sha256', name, 'hex').slice(0, 32)}`);
}

async function takeLock(lock: string, owner: string, options: LockOptions): Promise<void> {
  const begun = performance.now();
  let seen: { readonly owner: string; readonly since: number } | undefined;
  for (let pollMs = 1; ; pollMs = Math.min(2 * pollMs, maxPollMs)) {
    throwIfAborted(options.signal, options.action);
    try {
      symlinkSync(owner, lock);
      return;
    } catch (error) {
      if (!isErrno(error, 'EEXIST')) throw error;
    }
    const now = performance.now();
    if (now - begun > maxWaitMs) {
      throw new NicheError(
        'storage-unavailable',
        `${options.action} failed: other writers keep changing it`,
      );
    }
    const holder = holderOf(lock);
    if (holder === null) continue;
    if (holder.owner !== seen?.owner) seen = { owner: holder.owner, since: now };
    if (isStale(holder, now - seen.since, options.root)) {
      await breakLock(lock, holder.owner, options);
    } else {
      await sleep(Math.random() * pollMs);
    }
  }
}

/**
 * Removes the lock of `owner`. Of several processes that want to, one may: otherwise the last would
 * remove the lock that the first has taken by then.
 */
async function breakLock(lock: string, owner: string, options: LockOptions): Promise<void> {
  const folder = await openTemporaryFolder(options.root);
  await withLockAt(lockPath(folder, `${lock}\n${owner}`), options, () => {
    if (holderOf(lock)?.owner === owner) unlinkSync(lock);
  });
}

interface Holder {
  readonly owner: string;
  /** The user who created the lock. */
  readonly uid: number;
}

/** @returns null when nothing holds the lock */
function holderOf(lock: string): Holder | null {
  try {
    return { owner: readlinkSync(lock), uid: lstatSync(lock).uid };
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return null;
    throw error;
  }
}

/** @param waitedMs how long this call has seen this holder */
function isStale({ owner, uid }: Holder, waitedMs: number, root: FileRoot): boolean {
  if (!root.isTrusted(uid)) return true;
  if (waitedMs < endedGraceMs) return false;
  const isAlive = isOwnerAlive(owner);
  return isAlive === undefined ? waitedMs > unknownGraceMs : !isAlive;
}

let locksTaken = 0;

/** Returns a text that identifies this process and no other lock: at most 59 bytes. */
function newOwner(): string {
  locksTaken += 1;
  return `${ownerOf(process.pid)}-${locksTaken.toString(36)}`;
}

/** Cached, as finding out about this process takes several system calls. */
let self: string | undefined;

function ownerOf(pid: number): string {
  if (pid === process.pid && self !== undefined) return self;
  const { started, scope } = identifyProcess(pid);
  const owner = `${pid}-${digest(started)}-${digest(scope)}`;
  if (pid === process.pid) self = owner;
  return owner;
}

/** @returns undefined for a process of another machine or container */
function isOwnerAlive(owner: string): boolean | undefined {
  const [pid = '', started = '', scope = ''] = owner.split('-');
  const now = ownerOf(Number(pid)).split('-');
  // Some systems do not tell when a process started.
  if (now[2] !== scope || started === digest('')) return undefined;
  return now[1] === started;
}

function digest(text: string): string {
  return hash('sha256', text, 'hex').slice(0, 16);
}
