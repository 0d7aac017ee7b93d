import { NicheError } from '../errors.ts';
import { shellWord } from '../util/shell.ts';
import type { Bucket } from '../storage/bucket.ts';
import { defaultPriority, writeCacheInfo } from './cache-info.ts';
import { formatConfig } from './config.ts';
import type { CacheConfig } from './config.ts';
import { configKey, parseNarInfoKey } from './layout.ts';
import { createObject } from './objects.ts';

/**
 * Creates an empty cache. `niche.json` is written last and never overwritten: with it, the cache exists.
 *
 * @throws NicheError `cache-exists` when there is one already, which stays unchanged; the codes of
 *   {@link writeCacheInfo}
 */
export async function initCache(
  bucket: Bucket,
  config: CacheConfig,
  priority = defaultPriority,
): Promise<void> {
  await assertNoCache(bucket);
  await writeCacheInfo(bucket, config, priority);
  if ((await createObject(bucket, configKey, formatConfig(config))) === 'exists') {
    throw cacheExists(bucket);
  }
}

/** @throws NicheError `cache-exists` */
export async function assertNoCache(bucket: Bucket): Promise<void> {
  if (await bucket.head(configKey)) throw cacheExists(bucket);
}

/** Keys that {@link existingNarInfos} lists at most: 20 pages of a bucket. */
const maxListedKeys = 20_000;

/** Counts the narinfos of a bucket that is to become a cache. Stops in a large one. */
export async function existingNarInfos(
  bucket: Bucket,
): Promise<{ readonly narInfos: number; readonly isComplete: boolean }> {
  let keys = 0;
  let narInfos = 0;
  for await (const { key } of bucket.list('')) {
    if (keys === maxListedKeys) return { narInfos, isComplete: false };
    keys += 1;
    if (parseNarInfoKey(key) !== null) narInfos += 1;
  }
  return { narInfos, isComplete: true };
}

function cacheExists(bucket: Bucket): NicheError {
  return new NicheError('cache-exists', `there is a cache at ${bucket.url} already`, {
    hint: `show it with: niche show -u ${shellWord(bucket.url)}`,
  });
}
