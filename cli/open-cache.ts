import { openCache } from '../core/cache/open.ts';
import type { CacheAccess, OpenCache } from '../core/cache/open.ts';
import { hasAmbientCredentials } from './secrets/ambient.ts';
import { environmentCredentials } from './secrets/credentials.ts';
import { assertKeysSure, keysOf } from './cache-url.ts';
import type { NamedCache } from './cache-url.ts';
import type { Context } from './context.ts';
import { keyringOf } from './secrets/identities.ts';

/**
 * Opens the cache that the user named.
 *
 * @throws NicheError `usage` when its keys would come over plain HTTP and none is pinned; `wrong-key`
 *   when it does not name a key that was pinned, and what
 *   {@link openCache} throws
 */
export async function openNamedCache(named: NamedCache, context: Context): Promise<OpenCache> {
  // Before anything: what came over plain HTTP must not choose where credentials are tried.
  assertKeysSure(named);
  const cache = await openCache(named.url, accessOf(context));
  keysOf(named, cache.config);
  return cache;
}

/** What this machine and its user have to open caches with. */
export function accessOf(context: Context): CacheAccess {
  return {
    hasCredentials: (storageUrl) => hasAmbientCredentials(storageUrl, context.env),
    credentialsFor: (storageUrl) => environmentCredentials(storageUrl, context.env),
    identities: keyringOf(context).identities,
  };
}

/** What this machine has for storages that the user names: its SDKs may look further than niche can. */
export function ownAccess({ env }: Context): CacheAccess {
  return {
    hasCredentials: () => true,
    credentialsFor: (storageUrl) => environmentCredentials(storageUrl, env),
    identities: [],
  };
}
