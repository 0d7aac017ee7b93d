import type { PublicKey } from '../nix/keys.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { isRealisationName, lastRealisationKey } from '../nix/realisation.ts';
import { storeHash } from '../nix/store-path.ts';
import { isKey } from '../storage/keys.ts';
import { mapConcurrent } from '../util/concurrency.ts';
import type { OpenCache } from './open.ts';
import { readRealisation } from './read-realisation.ts';
import { readSignedNarInfo } from './signed-narinfo.ts';

const lookupsAtOnce = 16;

/**
 * Returns whether readers can install the cache's own path of that name: a trusted key signed its
 * narinfo, its NAR exists, and each reference is signed here or in an upstream. It does not read the
 * NAR, and looks no further than the direct references: the publisher had found theirs.
 *
 * @param path a store path, or the name of a realisation, of which the output counts
 * @throws NicheError `storage-…`, `upstream-unavailable`
 */
export async function isCompletePath(
  cache: Pick<OpenCache, 'public' | 'config' | 'upstreams'>,
  path: string,
  publicKeys: readonly PublicKey[],
): Promise<boolean> {
  const { public: root, config, upstreams } = cache;

  async function findHere(path: string): Promise<NarInfo | null> {
    const found = await readSignedNarInfo(root, storeHash(path), config.storeDir, publicKeys);
    return found.kind === 'signed' && found.info.path === path ? found.info : null;
  }

  async function isAvailable(reference: string): Promise<boolean> {
    if (await findHere(reference)) return true;
    const lookup = await upstreams.findNarInfo(storeHash(reference));
    return lookup.kind === 'found' && lookup.info.path === reference;
  }

  if (isRealisationName(path)) {
    const trusted = { storeDir: config.storeDir, publicKeys };
    const found = await readRealisation(root, lastRealisationKey(path), trusted);
    return found.kind === 'found' && isCompletePath(cache, found.value.outPath, publicKeys);
  }
  const info = await findHere(path);
  if (!info || !isKey(info.url)) return false;
  if ((await root.head(info.url)) === null) return false;
  const others = info.references.filter((reference) => reference !== path);
  const available = await mapConcurrent(others, lookupsAtOnce, isAvailable);
  return available.every(Boolean);
}
