import { openCache } from '../core/cache/open-cache.ts';
import type { OpenCache } from '../core/cache/open-cache.ts';
import { keysOf } from './cache-url.ts';
import type { NamedCache } from './cache-url.ts';

/**
 * Opens the cache that the user named.
 *
 * @throws NicheError `wrong-key` when it does not name a key that was pinned, and what
 *   {@link openCache} throws
 */
export async function openNamedCache(named: NamedCache): Promise<OpenCache> {
  const cache = await openCache(named.url);
  keysOf(named, cache.config);
  return cache;
}
