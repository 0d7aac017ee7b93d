import { existsSync, watch, type FSWatcher } from 'node:fs';
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { isNicheError } from '../../core/errors.ts';
import type { LocalPathInfo } from '../../core/nix/path-info.ts';
import type { Nix } from '../nix/nix.ts';
import { queryPathInfos } from '../nix/query.ts';

export interface WatchStoreOptions {
  /** When aborted, the store is looked through once more, and the watch ends. */
  readonly ended: AbortSignal;
  /** Ends it at once. */
  readonly signal: AbortSignal;
}

/** A name that appeared in the store's folder and may become a valid path. */
interface Candidate {
  dueAtMs: number;
  delayMs: number;
}

const intervalMs = 250;
/** An output can lie in the store, not yet valid, for as long as its build runs. */
const maxDelayMs = 15_000;
/** The system may drop notices of changes, so the whole folder is read now and then. */
const rescanMs = 30_000;

const storeName = /^[0-9a-df-np-sv-z]{32}-/u;

/**
 * Paths that were built on this machine and became valid since the call, until `ended`. For users
 * whose post-build hook nix would drop. Everything that ends up valid is found; paths that were
 * substituted or copied are left out.
 */
export async function watchStore(
  nix: Nix,
  { ended, signal }: WatchStoreOptions,
): Promise<AsyncGenerator<LocalPathInfo>> {
  const candidates = new Map<string, Candidate>();
  const consider = (name: string): void => {
    if (!storeName.test(name) || /\.drv(?:\.chroot|\.lock)?$/u.test(name)) return;
    candidates.set(name, { dueAtMs: 0, delayMs: intervalMs });
  };
  // Watching begins before the first look, so that nothing falls in between.
  const watcher = startWatching(nix.realStoreDir, (name) => {
    consider(name);
    // A path is registered while its lock is held, and the lock's file removed after.
    if (name.endsWith('.lock')) consider(name.slice(0, -'.lock'.length));
  });
  const known = new Set(await readNames(nix.realStoreDir));

  const rescan = async (): Promise<void> => {
    for (const name of await readNames(nix.realStoreDir)) {
      if (known.has(name)) continue;
      known.add(name);
      consider(name);
    }
  };

  async function* ask(due: ReadonlyMap<string, Candidate>): AsyncGenerator<LocalPathInfo> {
    const paths = [...due.keys()].map((name) => path.join(nix.storeDir, name));
    const { valid } = await queryPathInfos(nix, paths, { signal });
    const found = new Set(valid.map((info) => path.basename(info.path)));
    for (const [name, candidate] of due) {
      // Changed while the question was out: what it answered may be old.
      if (candidates.get(name) !== candidate) continue;
      if (found.has(name) || !existsSync(path.join(nix.realStoreDir, name))) {
        candidates.delete(name);
      } else {
        candidate.dueAtMs = Date.now() + candidate.delayMs;
        candidate.delayMs = Math.min(candidate.delayMs * 2, maxDelayMs);
      }
    }
    yield* valid.filter(({ ultimate }) => ultimate);
  }

  async function* look(): AsyncGenerator<LocalPathInfo> {
    try {
      let rescanAtMs = Date.now() + (watcher === undefined ? 0 : rescanMs);
      while (!signal.aborted) {
        const isLast = ended.aborted;
        if (isLast || Date.now() >= rescanAtMs) {
          await rescan();
          rescanAtMs = Date.now() + (watcher === undefined ? 2_000 : rescanMs);
        }
        const due = [...candidates].filter(([, { dueAtMs }]) => isLast || dueAtMs <= Date.now());
        try {
          if (due.length > 0) yield* ask(new Map(due));
        } catch (error) {
          // A busy database answers the next time; at the end there is none.
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
  return look();
}

/** Undefined where the system cannot watch (its limits, or a network's filesystem). */
function startWatching(folder: string, onName: (name: string) => void): FSWatcher | undefined {
  try {
    const watcher = watch(folder, { persistent: false }, (_, name) => {
      if (name !== null) onName(name);
    });
    // The rescans go on without it.
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
    // A store's folder is made with its first path.
    return [];
  }
}
