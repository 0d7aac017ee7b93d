import { isNicheError, messageOf } from '../../errors.ts';
import type { NicheError } from '../../errors.ts';
import { storeHash } from '../../nix/store-path.ts';
import type { ObjectReader } from '../../storage/bucket.ts';
import { readNarInfo, isUnreadableNarInfo } from '../read-narinfo.ts';
import { checkSignatures } from './signatures.ts';
import type { Upstreams } from '../upstreams.ts';

/** Where readers find a reference; `why` says why they do not. */
export type ReferenceLocation =
  { readonly at: 'here' | 'upstream' } | { readonly at: null; readonly why: string };

/** Answers, once for each path, where readers of the cache find it. */
export interface ReferenceLocator {
  /** @throws NicheError when that cannot be said: what storage throws, `upstream-unavailable` */
  locateReference(path: string): Promise<ReferenceLocation>;
}

interface ReferencesOptions {
  readonly reader: ObjectReader;
  readonly upstreams: Upstreams;
  readonly publicKeys: readonly string[];
  readonly storeDir: string;
  /** Store hashes that an administrator has withdrawn. */
  readonly blocked: ReadonlySet<string>;
}

/** After so many failures in a row the upstreams are not asked again: each may take a minute. */
const maxUpstreamFailures = 3;

export function createReferenceLocator(options: ReferencesOptions): ReferenceLocator {
  const { reader, upstreams, storeDir, blocked } = options;
  const known = new Map<string, Promise<ReferenceLocation>>();
  let failuresInRow = 0;
  let lastFailure: NicheError | undefined;

  async function isUpstream(path: string): Promise<boolean> {
    if (lastFailure && failuresInRow >= maxUpstreamFailures) throw lastFailure;
    try {
      const info = await upstreams.findNarInfo(storeHash(path));
      failuresInRow = 0;
      return info?.path === path;
    } catch (error) {
      if (isNicheError(error, 'upstream-unavailable')) {
        failuresInRow += 1;
        lastFailure = error;
      }
      throw error;
    }
  }

  /** Why readers cannot take the path from this cache; null when they can. */
  async function faultHere(path: string): Promise<string | null> {
    const hash = storeHash(path);
    if (blocked.has(hash)) return 'it is blocked here';
    try {
      const info = await readNarInfo(reader, hash, storeDir);
      if (!info) return 'it is not here';
      if (info.path !== path) return `here is ${info.path} in its stead`;
      const verifies = checkSignatures(info, options).some(({ verdict }) => verdict === 'cache');
      return verifies ? null : 'its narinfo here has no signature that verifies';
    } catch (error) {
      if (!isUnreadableNarInfo(error)) throw error;
      return `its narinfo here cannot be read (${messageOf(error)})`;
    }
  }

  async function find(path: string): Promise<ReferenceLocation> {
    const why = await faultHere(path);
    if (why === null) return { at: 'here' };
    return (await isUpstream(path)) ? { at: 'upstream' } : { at: null, why };
  }

  return {
    locateReference(path) {
      const asked = known.get(path) ?? find(path);
      known.set(path, asked);
      return asked;
    },
  };
}
