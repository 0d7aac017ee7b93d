import { NicheError, quote } from '../errors.ts';
import { formatCacheInfo, parseCacheInfo } from '../nix/cache-info.ts';
import type { CacheInfo } from '../nix/cache-info.ts';
import type { Bucket } from '../storage/bucket.ts';
import type { CacheConfig } from './config.ts';
import { cacheInfoKey } from './layout.ts';
import { createObject, readObjectWithInfo, replaceObject } from './objects.ts';

/** Nix queries caches with a lower number first; cache.nixos.org has 40. */
export const defaultPriority = 41;

/** The result of {@link writeCacheInfo}. */
export interface CacheInfoWritten {
  readonly change: 'created' | 'replaced' | 'unchanged';
  /** The former priority; null when there was none. */
  readonly before: number | null;
}

/**
 * Writes `nix-cache-info`, which tells Nix how to use the cache. Replaces another one, such as that of
 * `nix copy`.
 *
 * @throws NicheError `usage` when the other one is of another store directory;
 *   `malformed-cache-info`; `changed-meanwhile`; `storage-…`
 */
export async function writeCacheInfo(
  bucket: Bucket,
  { storeDir }: Pick<CacheConfig, 'storeDir'>,
  priority: number,
): Promise<CacheInfoWritten> {
  const text = formatCacheInfo({ storeDir, wantMassQuery: true, priority });
  const stored = await readObjectWithInfo(bucket, cacheInfoKey);
  if (stored === null) {
    if ((await createObject(bucket, cacheInfoKey, text)) === 'exists') throw changed(bucket);
    return { change: 'created', before: null };
  }
  const former = stored.body.toString('utf8');
  const info = parseCacheInfo(former);
  assertSameStore(info, storeDir, bucket);
  if (former === text) return { change: 'unchanged', before: priority };
  const outcome = await replaceObject(bucket, cacheInfoKey, text, stored.info.etag);
  if (outcome === 'changed') throw changed(bucket);
  return { change: 'replaced', before: info.priority };
}

function assertSameStore({ storeDir: found }: CacheInfo, expected: string, { url }: Bucket): void {
  if (found === expected) return;
  throw new NicheError(
    'usage',
    `wrong store directory in ${cacheInfoKey} of ${url}: expected ${quote(expected)}, got ${quote(found)}`,
    { hint: `pass --store-dir ${found}, or use another bucket` },
  );
}

function changed({ url }: Bucket): NicheError {
  return new NicheError(
    'changed-meanwhile',
    `${cacheInfoKey} of ${url} was changed by someone else in the meantime; nothing was written`,
    { hint: 'run the command again' },
  );
}
