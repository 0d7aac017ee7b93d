import { mapConcurrent } from '../../util/concurrency.ts';
import { isNicheError } from '../../errors.ts';
import { parsePublicKey } from '../../nix/keys.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import type { PathInfo } from '../../nix/path-info.ts';
import { storeHash } from '../../nix/store-path.ts';
import type { KnownPaths } from '../local/known-paths.ts';
import { narInfoKey, parseNarInfoKey } from '../layout.ts';
import type { OpenCache } from '../open.ts';
import { isSamePath } from '../read-narinfo.ts';
import { readSignedNarInfo } from '../signed-narinfo.ts';
import { isUpstreamOutage } from '../upstreams.ts';

/**
 * Where readers can get a path: `conflict` when the cache has it with other contents or references,
 * null when it is nowhere.
 */
export type LookupResult = 'present' | 'upstream' | 'conflict' | null;

/** Counts of answers and requests. */
export interface LookupCounts {
  /** Paths answered without a request: remembered, or signed by an upstream. */
  readonly known: number;
  /** Narinfos requested from the cache. */
  readonly lookups: number;
  /** Approximate number of listed pages. */
  readonly listings: number;
  /** Narinfos requested from upstreams. */
  readonly upstream: number;
}

export interface Lookups {
  /**
   * Finds each path in the cache or an upstream. While an upstream is down, a path that no other has
   * counts as nowhere: the publisher looks there again before it publishes the path.
   *
   * @throws NicheError `storage-…`; `upstream-unavailable` for an upstream that denies access
   */
  findPaths(infos: readonly PathInfo[]): Promise<LookupResult[]>;
  counts(): LookupCounts;
}

const lookupsAtOnce = 32;
/** Keys on one page of a listing, with every provider. */
const keysPerPage = 1000;
/** Lookups that repay one page. A page takes as long as a few lookups and costs as much as a dozen. */
const lookupsPerPage = 100;

export function createLookups(cache: OpenCache, known: KnownPaths): Lookups {
  const { upstreams, config } = cache;
  const publicKeys = config.publicKeys.map(parsePublicKey);
  const counts = { known: 0, lookups: 0, listings: 0, upstream: 0 };

  async function findHere(hash: string): Promise<NarInfo | null> {
    counts.lookups += 1;
    const found = await readSignedNarInfo(cache.public, hash, config.storeDir, publicKeys);
    // The publisher reports a narinfo that readers do not accept.
    return found.kind === 'signed' ? found.info : null;
  }

  async function lookUp(info: PathInfo, isAbsentHere: boolean): Promise<LookupResult> {
    const hash = storeHash(info.path);
    const here = isAbsentHere ? null : await findHere(hash);
    if (here) return isSamePath(here, info) ? 'present' : 'conflict';
    if (config.upstreams.length === 0) return null;
    counts.upstream += 1;
    const there = await upstreams.findNarInfo(hash).catch((error: unknown) => {
      if (isUpstreamOutage(error)) return { kind: 'absent' } as const;
      throw error;
    });
    return there.kind === 'found' && isSamePath(there.info, info) ? 'upstream' : null;
  }

  /**
   * Lists the cache to find out which paths it lacks, as far as that is cheaper than single lookups.
   * Keys are listed in order, so a listing that stops early covers all keys before that point.
   */
  async function listAbsent(hashes: readonly string[]): Promise<ReadonlySet<string>> {
    const pages = Math.floor(hashes.length / lookupsPerPage);
    // In a directory, lookups are faster than a listing.
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
    // A path with an upstream's signature is available there.
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
