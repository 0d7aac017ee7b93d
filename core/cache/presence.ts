import { mapConcurrent } from '../util/concurrency.ts';
import { storeHash } from '../nix/store-path.ts';
import type { ObjectReader } from '../storage/bucket.ts';
import type { Blocklist } from './blocklist.ts';
import { readNarInfoOrNull } from './read-narinfo.ts';
import type { Upstreams } from './upstreams.ts';

const lookupsAtOnce = 16;

/** Finds out which paths readers can get, from the cache or from an upstream. */
export interface Presence {
  /**
   * Returns the references that are neither in the cache nor upstream. Recently found paths are not
   * requested again; missing ones always are.
   *
   * @throws NicheError `storage-…`, `upstream-unavailable`
   */
  findMissing(references: readonly string[]): Promise<string[]>;
  /** Records a path whose narinfo this publisher has just read or created in the cache. */
  markPresent(path: string): void;
}

/**
 * Recently found paths. A publisher handles batch after batch of the same closure, and each refers to
 * many paths of the one before.
 */
export interface RecentPaths {
  has(path: string): boolean;
  add(path: string): void;
}

/** How long a found path counts as present, in milliseconds: as long as one run of a publisher. */
const recentMs = 10 * 60 * 1000;
/** Bounds the memory to about 20 MB. */
const maxRecentPaths = 100_000;

export function createRecentPaths(now: () => Date): RecentPaths {
  const recent = new Map<string, number>();
  return {
    has: (path) => (recent.get(path) ?? -Infinity) > now().getTime() - recentMs,
    add(path) {
      if (recent.size >= maxRecentPaths) recent.clear();
      recent.set(path, now().getTime());
    },
  };
}

export function createPresence(options: {
  readonly cache: ObjectReader;
  readonly upstreams: Upstreams;
  readonly storeDir: string;
  readonly blocked: Pick<Blocklist, 'has'>;
  readonly seen: RecentPaths;
}): Presence {
  const { cache, upstreams, storeDir, blocked, seen } = options;

  async function isPresent(path: string): Promise<boolean> {
    const hash = storeHash(path);
    if (blocked.has(hash)) return false;
    if (seen.has(path)) return true;
    const info =
      (await readNarInfoOrNull(cache, hash, storeDir)) ?? (await upstreams.findNarInfo(hash));
    if (info?.path !== path) return false;
    seen.add(path);
    return true;
  }

  return {
    async findMissing(references) {
      const found = await mapConcurrent(references, lookupsAtOnce, isPresent);
      return references.filter((_, index) => !found[index]);
    },
    markPresent: (path) => {
      seen.add(path);
    },
  };
}
