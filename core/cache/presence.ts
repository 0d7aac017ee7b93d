import { mapConcurrent } from '../util/concurrency.ts';
import { storeHash } from '../nix/store-path.ts';
import { parsePublicKey } from '../nix/keys.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import type { ObjectReader } from '../storage/bucket.ts';
import type { Blocklist } from './blocklist.ts';
import type { CacheConfig } from './config.ts';
import { readSignedNarInfo } from './signed-narinfo.ts';
import type { Upstreams } from './upstreams.ts';

/** So up to 15 lookups more than needed are made. */
const lookupsAtOnce = 16;

/** Finds out which paths readers can get, from the cache or from an upstream. */
export interface Presence {
  /**
   * Looks for references in the cache and upstream, in their order. Starts no more lookups once
   * `maxMissing` references are missing. Recently found paths are not requested again; missing ones
   * always are.
   *
   * @throws NicheError `storage-…`, `upstream-unavailable`
   */
  findReferences(references: readonly string[], maxMissing: number): Promise<FoundReferences>;
  /** Records a path whose narinfo this publisher has just verified or created in the cache. */
  markPresent(path: string): void;
}

/** The references that were looked up. Others are in neither. */
export interface FoundReferences {
  readonly present: ReadonlySet<string>;
  /** In the order of the references. */
  readonly missing: readonly string[];
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
  readonly config: Pick<CacheConfig, 'storeDir' | 'publicKeys'>;
  readonly blocked: Pick<Blocklist, 'has' | 'hasNar' | 'wasBlocked'>;
  readonly seen: RecentPaths;
}): Presence {
  const { cache, upstreams, config, blocked, seen } = options;
  const publicKeys = config.publicKeys.map(parsePublicKey);

  async function isPresent(path: string): Promise<boolean> {
    const hash = storeHash(path);
    if (blocked.has(hash)) return false;
    // After a withdrawal, only the narinfo proves that the path is published again.
    if (seen.has(path) && !blocked.wasBlocked(hash)) return true;
    const info = (await findHere(hash)) ?? (await findUpstream(hash));
    if (info?.path !== path || blocked.hasNar(info.narHash)) return false;
    seen.add(path);
    return true;
  }

  /** A reader cannot use a narinfo that niche cannot verify, so it does not count. */
  async function findHere(hash: string): Promise<NarInfo | null> {
    const found = await readSignedNarInfo(cache, hash, config.storeDir, publicKeys);
    return found.kind === 'signed' ? found.info : null;
  }

  async function findUpstream(hash: string): Promise<NarInfo | null> {
    const lookup = await upstreams.findNarInfo(hash);
    return lookup.kind === 'found' ? lookup.info : null;
  }

  return {
    async findReferences(references, maxMissing) {
      const present = new Set<string>();
      const missing = new Set<string>();
      await mapConcurrent(references, lookupsAtOnce, async (path) => {
        if (missing.size >= maxMissing) return;
        ((await isPresent(path)) ? present : missing).add(path);
      });
      const inOrder = references.filter((path) => missing.has(path));
      return { present, missing: inOrder.slice(0, maxMissing) };
    },
    markPresent: (path) => {
      seen.add(path);
    },
  };
}
