import { openCache } from '../../core/cache/open.ts';
import type { CacheAccess, OpenCache } from '../../core/cache/open.ts';
import { hasAmbientCredentials } from '../secrets/ambient.ts';
import { environmentCredentials } from '../secrets/credentials.ts';
import { trustedKeys } from './address.ts';
import type { CacheAddress } from './address.ts';
import type { Context } from '../process/context.ts';
import { keyringOf } from '../secrets/identities.ts';

/**
 * Opens the cache at `address` for reading and writing.
 *
 * @throws NicheError `wrong-key` when the cache lacks a pinned key; the codes of {@link openCache}
 */
export async function openCacheAt(
  address: CacheAddress,
  context: Context,
  needs: 'staging' | 'private' = 'staging',
): Promise<OpenCache> {
  const cache = await openCache(address.url, accessOf(context), needs);
  trustedKeys(address, cache.config);
  return cache;
}

/**
 * Opens the cache for an administrator or an auditor, who may have no rights on the staging root.
 *
 * @throws NicheError the codes of {@link openCacheAt}
 */
export async function openAsAdministrator(
  address: CacheAddress,
  context: Context,
): Promise<OpenCache> {
  return openCacheAt(address, context, 'private');
}

/** Returns this machine's credentials and identities for opening a cache. */
export function accessOf(context: Context): CacheAccess {
  return {
    hasCredentials: (storageUrl) => hasAmbientCredentials(storageUrl, context.env),
    credentialsFor: (storageUrl) => environmentCredentials(storageUrl, context.env),
    identities: keyringOf(context).identities,
  };
}

/**
 * Returns this machine's credentials for storage that the user specifies. niche always claims to have
 * some, since a cloud's SDK finds credentials in more places than niche can check.
 */
export function ownAccess({ env }: Context): CacheAccess {
  return {
    hasCredentials: () => true,
    credentialsFor: (storageUrl) => environmentCredentials(storageUrl, env),
    identities: [],
  };
}
