import { existsSync, watch, type FSWatcher } from 'node:fs';
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { isNicheError } from '../../core/errors.ts';
import type { LocalPathInfo } from '../../core/nix/path-info.ts';
import type { Nix } from '../nix/nix.ts';
import { queryPathInfos } from '../nix/query.ts';
import { probeName } from './hook-probe.ts';

export interface WatchStoreOptions {
  /** Aborted when the build has ended: the store is scanned once more, then watching ends. */
  readonly ended: AbortSignal;
  /** Stops at once. */
  readonly signal: AbortSignal;
}

/** A name that appeared in the store directory and may become a valid path. */
interface Candidate {
  dueAtMs: number;
  delayMs: number;
}

const intervalMs = 250;
/** An output is in the store but not valid while its build runs, which may take hours. */
const maxDelayMs = 15_000;
/** The system may drop change events, so the directory is also scanned now and then. */
const rescanMs = 30_000;
/** The interval of scans on systems without change events. */
const rescanOnlyMs = 2_000;

const storeName = /^[0-9a-df-np-sv-z]{32}-/u;

/**
 * Yields paths that were built on this machine and became valid since the call, until `ended`. It is
 * for users whose post-build hook Nix would ignore. It includes the paths of remote builders, but no
 * substituted ones.
 *
 * @param folder where the store directory is on disk
 */
export async function watchStore(
  nix: Nix,
  folder: string,
  { ended, signal }: WatchStoreOptions,
): Promise<AsyncGenerator<LocalPathInfo>> {
  const trustedNames = new Set(nix.settings.trustedPublicKeys.map(keyName));
  const candidates = new Map<string, Candidate>();
  const consider = (name: string): void => {
    if (!storeName.test(name) || /\.drv(?:\.chroot|\.lock)?$/u.test(name)) return;
    if (name.endsWith(`-${probeName}`)) return;
    candidates.set(name, { dueAtMs: 0, delayMs: intervalMs });
  };
  // Watching starts before the first scan, so that nothing is missed in between.
  const watcher = startWatching(folder, (name) => {
    consider(name);
    // Nix registers a path while it holds the lock, and removes the lock file afterwards.
    if (name.endsWith('.lock')) consider(name.slice(0, -'.lock'.length));
  });
  const known = new Set(await readNames(folder));

  const rescan = async (): Promise<void> => {
    for (const name of await readNames(folder)) {
      if (known.has(name)) continue;
      known.add(name);
      consider(name);
    }
  };

  async function* query(due: ReadonlyMap<string, Candidate>): AsyncGenerator<LocalPathInfo> {
    const paths = [...due.keys()].map((name) => path.join(nix.storeDir, name));
    const { valid, unreadable } = await queryPathInfos(nix, paths, { signal });
    const found = new Set([...valid, ...unreadable].map((info) => path.basename(info.path)));
    for (const [name, candidate] of due) {
      // It changed during the query, so the answer may be outdated.
      if (candidates.get(name) !== candidate) continue;
      if (found.has(name) || !existsSync(path.join(folder, name))) {
        candidates.delete(name);
      } else {
        candidate.dueAtMs = Date.now() + candidate.delayMs;
        candidate.delayMs = Math.min(candidate.delayMs * 2, maxDelayMs);
      }
    }
    yield* valid.filter((info) => isBuilt(info, trustedNames));
  }

  async function* poll(): AsyncGenerator<LocalPathInfo> {
    try {
      let rescanAtMs = Date.now() + (watcher === undefined ? 0 : rescanMs);
      while (!signal.aborted) {
        const isLast = ended.aborted;
        if (isLast || Date.now() >= rescanAtMs) {
          await rescan();
          rescanAtMs = Date.now() + (watcher === undefined ? rescanOnlyMs : rescanMs);
        }
        const due = [...candidates].filter(([, { dueAtMs }]) => isLast || dueAtMs <= Date.now());
        try {
          if (due.length > 0) yield* query(new Map(due));
        } catch (error) {
          // A busy database answers at the next poll; after the last one there is none.
          if (isLast || !isNicheError(error, 'nix-failed')) throw error;
        }
        if (isLast) return;
        await sleep(intervalMs, undefined, { signal: AbortSignal.any([ended, signal]) }).catch(
          () => undefined,
        );
      }
    } finally {
      watcher?.close();
    }
  }
  return poll();
}

/**
 * Returns whether a path was built, here or by a remote builder, which Nix copies it from. Nix substitutes
 * only paths that a trusted key signed, and those that prove their own contents.
 */
function isBuilt(info: LocalPathInfo, trustedNames: ReadonlySet<string>): boolean {
  if (info.ultimate) return true;
  const isSubstituted = info.signatures.some((signature) => trustedNames.has(keyName(signature)));
  return info.deriver !== null && !isSubstituted;
}

/** Returns the name in `<key name>:<base64>`. */
function keyName(text: string): string {
  return text.slice(0, text.indexOf(':'));
}

/** Returns undefined where the system cannot watch: limits, or a network file system. */
function startWatching(folder: string, onName: (name: string) => void): FSWatcher | undefined {
  try {
    const watcher = watch(folder, { persistent: false }, (_, name) => {
      if (name !== null) onName(name);
    });
    // The scans continue without it.
    watcher.on('error', () => {
      watcher.close();
    });
    return watcher;
  } catch {
    return undefined;
  }
}

async function readNames(folder: string): Promise<readonly string[]> {
  try {
    return await readdir(folder);
  } catch {
    // The directory is created with the first store path.
    return [];
  }
}
