import { NicheError } from '../errors.ts';
import { formatCacheInfo } from '../nix/cache-info.ts';
import { shellWord } from '../util/shell.ts';
import type { Bucket } from '../storage/bucket.ts';
import { formatConfig } from './config.ts';
import type { CacheConfig } from './config.ts';
import { cacheInfoKey, configKey } from './layout.ts';
import { createObject } from './objects.ts';

/** Nix queries caches with a lower number first; cache.nixos.org has 40. */
export const defaultPriority = 41;

/**
 * Creates an empty cache. `niche.json` is written last and never overwritten: with it, the cache exists.
 *
 * @throws NicheError `cache-exists` when there is one already, which stays unchanged; `storage-…`
 */
export async function initCache(bucket: Bucket, config: CacheConfig): Promise<void> {
  await assertNoCache(bucket);
  await createObject(
    bucket,
    cacheInfoKey,
    formatCacheInfo({
      storeDir: config.storeDir,
      wantMassQuery: true,
      priority: defaultPriority,
    }),
  );
  if ((await createObject(bucket, configKey, formatConfig(config))) === 'exists') {
    throw cacheExists(bucket);
  }
}

/** @throws NicheError `cache-exists` */
export async function assertNoCache(bucket: Bucket): Promise<void> {
  if (await bucket.head(configKey)) throw cacheExists(bucket);
}

function cacheExists(bucket: Bucket): NicheError {
  return new NicheError('cache-exists', `there is a cache at ${bucket.url} already`, {
    hint: `show it with: niche show -u ${shellWord(bucket.url)}`,
  });
}
