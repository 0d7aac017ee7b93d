import type { KnownPaths } from '../../core/cache/local/known-paths.ts';
import type { OpenCache } from '../../core/cache/open.ts';
import { readRealisation } from '../../core/cache/read-realisation.ts';
import { isNicheError } from '../../core/errors.ts';
import type { PublicKey } from '../../core/nix/keys.ts';
import type { PathInfo } from '../../core/nix/path-info.ts';
import { lastRealisationKey, realisationName } from '../../core/nix/realisation.ts';
import type { Realisation } from '../../core/nix/realisation.ts';
import { mapConcurrent } from '../../core/util/concurrency.ts';
import type { Confirmation } from './confirm.ts';

/** Where readers can get a realisation; null when it is nowhere, or the publisher has to decide. */
export type RealisationLocation = 'present' | 'upstream' | null;

/** Looks for realisations in the cache and its upstreams. */
export interface RealisationLookups {
  findRealisations(realisations: readonly Realisation[]): Promise<RealisationLocation[]>;
  /** Checks a receipt that reports a realisation as published. */
  confirm(realisation: Realisation): Promise<Confirmation>;
}

const lookupsAtOnce = 32;

export function createRealisationLookups(
  { public: cache, upstreams, config }: Pick<OpenCache, 'public' | 'upstreams' | 'config'>,
  publicKeys: readonly PublicKey[],
  known: KnownPaths,
): RealisationLookups {
  const trusted = { storeDir: config.storeDir, publicKeys };

  const keyOf = (realisation: Realisation): string =>
    lastRealisationKey(realisationName(realisation));

  async function findUpstream(realisation: Realisation): Promise<RealisationLocation> {
    if (config.upstreams.length === 0) return null;
    try {
      const outPath = await upstreams.findRealisation(keyOf(realisation));
      return outPath === realisation.outPath ? 'upstream' : null;
    } catch (error) {
      // The publisher looks there again.
      if (isNicheError(error, 'upstream-unavailable')) return null;
      throw error;
    }
  }

  async function lookUp(realisation: Realisation): Promise<RealisationLocation> {
    const remembered = known.findPath(knownAs(realisation));
    if (remembered !== null) return remembered;
    const found = await readRealisation(cache, keyOf(realisation), trusted);
    if (found.kind !== 'found') return findUpstream(realisation);
    return found.value.outPath === realisation.outPath ? 'present' : null;
  }

  return {
    async findRealisations(realisations) {
      const found = await mapConcurrent(realisations, lookupsAtOnce, lookUp);
      for (const place of ['present', 'upstream'] as const) {
        const there = realisations.filter((_, at) => found[at] === place);
        known.rememberPaths(there.map(knownAs), place);
      }
      return found;
    },
    async confirm(realisation) {
      const key = keyOf(realisation);
      const found = await readRealisation(cache, key, trusted);
      const name = realisationName(realisation);
      if (found.kind !== 'found') {
        const why = found.kind === 'absent' ? `${key} is missing` : found.why;
        return { kind: 'unconfirmed', why: `a receipt reports ${name} as published, but ${why}` };
      }
      if (found.value.outPath === realisation.outPath) return { kind: 'confirmed' };
      const message = `the cache has another output of ${name}: ${found.value.outPath}`;
      return { kind: 'conflict', outcome: { status: 'rejected', code: 'conflict', message } };
    },
  };
}

/** Returns what this machine's record of known paths keeps of a realisation: it goes with its output. */
export function knownAs(realisation: Realisation): PathInfo {
  return {
    path: realisation.outPath,
    narHash: realisationName(realisation),
    ...{ narSize: 0, references: [], deriver: null, ca: null, signatures: [] },
  };
}
