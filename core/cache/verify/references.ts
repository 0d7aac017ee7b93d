import { isNicheError, messageOf } from '../../errors.ts';
import type { NicheError } from '../../errors.ts';
import { storeHash } from '../../nix/store-path.ts';
import type { ObjectReader } from '../../storage/bucket.ts';
import type { Blocked } from '../blocklist.ts';
import { readNarInfo, isUnreadableNarInfo } from '../read-narinfo.ts';
import { checkSignatures } from './signatures.ts';
import type { Upstreams } from '../upstreams.ts';

/** Where readers find a reference, or why they do not. */
export type ReferenceLocation =
  { readonly at: 'here' | 'upstream' } | { readonly at: null; readonly why: string };

/** Finds references for readers of the cache, each path once. */
export interface ReferenceLocator {
  /** @throws NicheError `storage-…`, `upstream-unavailable` when the answer is unknown */
  locateReference(path: string): Promise<ReferenceLocation>;
}

interface ReferencesOptions {
  readonly reader: ObjectReader;
  readonly upstreams: Upstreams;
  readonly publicKeys: readonly string[];
  readonly storeDir: string;
  readonly blocked: Pick<Blocked, 'has'>;
}

/** After this many failures in a row, upstreams are not queried again: each may take a minute. */
const maxUpstreamFailures = 3;

export function createReferenceLocator(options: ReferencesOptions): ReferenceLocator {
  const { reader, upstreams, storeDir, blocked } = options;
  const known = new Map<string, Promise<ReferenceLocation>>();
  let failuresInRow = 0;
  let lastFailure: NicheError | undefined;

  /** Returns why readers cannot get the path from an upstream; null when they can. */
  async function faultUpstream(path: string): Promise<string | null> {
    if (lastFailure && failuresInRow >= maxUpstreamFailures) throw lastFailure;
    try {
      const lookup = await upstreams.findNarInfo(storeHash(path));
      failuresInRow = 0;
      if (lookup.kind === 'unusable') return lookup.why;
      const isThere = lookup.kind === 'found' && lookup.info.path === path;
      return isThere ? null : 'no upstream has it';
    } catch (error) {
      if (isNicheError(error, 'upstream-unavailable')) {
        failuresInRow += 1;
        lastFailure = error;
      }
      throw error;
    }
  }

  /** Returns why readers cannot get the path from this cache; null when they can. */
  async function faultHere(path: string): Promise<string | null> {
    const hash = storeHash(path);
    if (blocked.has(hash)) return 'it is blocked in this cache';
    try {
      const info = await readNarInfo(reader, hash, storeDir);
      if (!info) return 'it is not in this cache';
      if (info.path !== path) return `the cache has ${info.path} instead`;
      const verifies = checkSignatures(info, options).some(({ verdict }) => verdict === 'cache');
      return verifies ? null : 'its narinfo has no valid signature';
    } catch (error) {
      if (!isUnreadableNarInfo(error)) throw error;
      return `its narinfo cannot be read (${messageOf(error)})`;
    }
  }

  async function find(path: string): Promise<ReferenceLocation> {
    const here = await faultHere(path);
    if (here === null) return { at: 'here' };
    const upstream = await faultUpstream(path);
    return upstream === null ? { at: 'upstream' } : { at: null, why: `${here}, and ${upstream}` };
  }

  return {
    locateReference(path) {
      const asked = known.get(path) ?? find(path);
      known.set(path, asked);
      return asked;
    },
  };
}
