import { mapConcurrent } from '../util/concurrency.ts';
import { isNicheError } from '../errors.ts';
import type { NicheError } from '../errors.ts';
import { maxNarInfoBytes } from '../limits.ts';
import { parseNarInfo } from '../nix/narinfo.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import type { PathInfo } from '../nix/path-info.ts';
import { storeHash } from '../nix/store-path.ts';
import type { ObjectReader } from '../storage/bucket.ts';
import type { Blocklist } from './blocklist.ts';
import { narInfoKey } from './layout.ts';
import { readText } from './objects.ts';
import type { Upstreams } from './upstreams.ts';

const lookupsAtOnce = 16;

/** Which paths readers of the cache can have, from it or from an upstream. */
export interface Presence {
  /**
   * The references that are neither here nor upstream. What was found lately is not asked for again;
   * what was not found always is.
   */
  findMissing(references: readonly string[]): Promise<string[]>;
  /** Takes note of a path whose narinfo this publisher has just read or created here. */
  markPresent(path: string): void;
}

/**
 * Paths that were found here or upstream lately, by a publisher that goes from batch to batch of
 * one closure: each batch would ask again for much of what the one before it has published.
 */
export interface RecentPaths {
  has(path: string): boolean;
  add(path: string): void;
}

/** As long as one run of a publisher may rely on what it found at its beginning, in milliseconds. */
const seenForMs = 10 * 60 * 1000;
/** Some 20 MB. */
const maxSeenPaths = 100_000;

export function createRecentPaths(now: () => Date): RecentPaths {
  const seen = new Map<string, number>();
  return {
    has: (path) => (seen.get(path) ?? -Infinity) > now().getTime() - seenForMs,
    add(path) {
      if (seen.size >= maxSeenPaths) seen.clear();
      seen.set(path, now().getTime());
    },
  };
}

/**
 * The narinfo of `storeHash` in the cache, null when there is none.
 *
 * @throws an error that {@link isUnreadableNarInfo} when what is there is damaged, and what the cache throws
 */
export async function readNarInfo(
  cache: ObjectReader,
  hash: string,
  storeDir: string,
): Promise<NarInfo | null> {
  const text = await readText(cache, narInfoKey(hash), maxNarInfoBytes);
  return text === null ? null : parseNarInfo(text, storeDir);
}

/** Whether `error` says that a narinfo is there and no reader can make anything of it. */
export function isUnreadableNarInfo(error: unknown): error is NicheError {
  return isNicheError(error, 'malformed-narinfo', 'oversized');
}

/** {@link readNarInfo}, for whom one that no reader can make anything of is as good as none. */
export async function readNarInfoOrNull(
  cache: ObjectReader,
  hash: string,
  storeDir: string,
): Promise<NarInfo | null> {
  try {
    return await readNarInfo(cache, hash, storeDir);
  } catch (error) {
    if (isUnreadableNarInfo(error)) return null;
    throw error;
  }
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

/** Whether two path infos are of the same contents with the same references. */
export function isSamePath(one: PathInfo, other: PathInfo): boolean {
  return (
    one.path === other.path &&
    one.narHash === other.narHash &&
    one.narSize === other.narSize &&
    one.references.join() === other.references.join()
  );
}
