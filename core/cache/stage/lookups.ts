import { mapConcurrent } from '../../util/concurrency.ts';
import { isNicheError } from '../../errors.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import type { PathInfo } from '../../nix/path-info.ts';
import { storeHash } from '../../nix/store-path.ts';
import type { KnownPaths } from '../local/known-paths.ts';
import { narInfoKey, parseNarInfoKey } from '../layout.ts';
import type { OpenCache } from '../open.ts';
import { readNarInfoOrNull, isSamePath } from '../read-narinfo.ts';

/**
 * Where readers of the cache get a path from, `conflict` when the cache has it with other contents or
 * references; null when they get it nowhere.
 */
export type LookupResult = 'present' | 'upstream' | 'conflict' | null;

/** What finding out has cost. */
export interface LookupCounts {
  /** Paths of which it was known, or which carry an upstream's signature: no request. */
  readonly known: number;
  /** Narinfos that the cache was asked for. */
  readonly lookups: number;
  /** Pages of a listing of the cache, about. */
  readonly listings: number;
  /** Narinfos that upstreams were asked for. */
  readonly upstream: number;
}

export interface Lookups {
  /**
   * Says of each path where it is.
   *
   * @throws what storage and upstreams throw
   */
  findPaths(infos: readonly PathInfo[]): Promise<LookupResult[]>;
  counts(): LookupCounts;
}

const lookupsAtOnce = 32;
/** A listing's page, in keys, at every storage there is. */
const keysPerPage = 1000;
/** A page takes the time of some look-ups, and the money of a dozen; it is worth it for this many. */
const lookupsPerPage = 100;

export function createLookups(cache: OpenCache, known: KnownPaths): Lookups {
  const { upstreams, config } = cache;
  const counts = { known: 0, lookups: 0, listings: 0, upstream: 0 };

  function findHere(hash: string): Promise<NarInfo | null> {
    counts.lookups += 1;
    // Of one that is damaged the publisher says so.
    return readNarInfoOrNull(cache.public, hash, config.storeDir);
  }

  async function lookUp(info: PathInfo, isAbsentHere: boolean): Promise<LookupResult> {
    const hash = storeHash(info.path);
    const here = isAbsentHere ? null : await findHere(hash);
    if (here) return isSamePath(here, info) ? 'present' : 'conflict';
    if (config.upstreams.length === 0) return null;
    counts.upstream += 1;
    const there = await upstreams.findNarInfo(hash);
    return there && isSamePath(there, info) ? 'upstream' : null;
  }

  /**
   * Tells by a listing what the cache does not have, as far as that is cheaper than to ask for each:
   * a listing comes in the order of the keys, so one that is given up is good for those before.
   */
  async function listAbsent(hashes: readonly string[]): Promise<ReadonlySet<string>> {
    const pages = Math.floor(hashes.length / lookupsPerPage);
    // A directory is asked faster than it is listed.
    if (pages === 0 || cache.public.url.startsWith('file:')) return new Set();
    const present = new Set<string>();
    let keys = 0;
    let last: string | null = null;
    try {
      for await (const { key } of cache.public.list('')) {
        if (keys === pages * keysPerPage) {
          last = key;
          break;
        }
        keys += 1;
        const hash = parseNarInfoKey(key);
        if (hash !== null) present.add(hash);
      }
    } catch (error) {
      if (!isNicheError(error, 'storage-denied')) throw error;
      counts.listings += 1;
      return new Set();
    }
    counts.listings += Math.max(1, Math.ceil(keys / keysPerPage));
    const isCovered = (hash: string): boolean => last === null || narInfoKey(hash) < last;
    return new Set(hashes.filter((hash) => isCovered(hash) && !present.has(hash)));
  }

  function findKnown(info: PathInfo): LookupResult {
    // A signature of an upstream's key says that the upstream has it.
    return upstreams.verifiedSignatures(info).length > 0 ? 'upstream' : known.findPath(info);
  }

  return {
    counts: () => ({ ...counts }),
    async findPaths(infos) {
      const places: LookupResult[] = infos.map(findKnown);
      const unknown = infos.filter((_, at) => places[at] === null);
      counts.known += infos.length - unknown.length;
      const absent = await listAbsent(unknown.map(({ path }) => storeHash(path)));
      const found = await mapConcurrent(unknown, lookupsAtOnce, (info) =>
        lookUp(info, absent.has(storeHash(info.path))),
      );
      for (const place of ['present', 'upstream'] as const) {
        known.rememberPaths(
          unknown.filter((_, at) => found[at] === place),
          place,
        );
      }
      const rest = found.values();
      return places.map((place) => place ?? rest.next().value ?? null);
    },
  };
}
