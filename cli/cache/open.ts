import { openCache, openCacheReader } from '../../core/cache/open.ts';
import type { CacheAccess, OpenCache, ReadableCache } from '../../core/cache/open.ts';
import { hasAmbientCredentials } from '../secrets/ambient.ts';
import { environmentCredentials } from '../secrets/credentials.ts';
import { assertKeysPinned, trustedKeys } from './address.ts';
import type { CacheAddress } from './address.ts';
import { loginsOf } from './logins.ts';
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

/**
 * Opens the cache at `address` for reading alone. Over plain HTTP a pinned key suffices for that.
 *
 * @throws NicheError `usage` over plain HTTP from another machine without a pinned key; `wrong-key`
 *   when the cache lacks a pinned key; the codes of {@link openCacheReader}
 */
export async function openReaderAt(
  address: CacheAddress,
  context: Context,
): Promise<ReadableCache> {
  assertKeysPinned(address);
  const cache = await openCacheReader(address.url, accessOf(context));
  trustedKeys(address, cache.config);
  return cache;
}

/** Returns this machine's credentials and identities for opening a cache. */
export function accessOf(context: Context): CacheAccess {
  return {
    hasCredentials: (storageUrl) => hasAmbientCredentials(storageUrl, context.env),
    credentialsFor: (storageUrl) => environmentCredentials(storageUrl, context.env),
    loginFor: loginsOf(context),
    identities: keyringOf(context).identities,
  };
}

/**
 * Returns this machine's credentials for storage that the user specifies. niche always claims to have
 * some, since a cloud's SDK finds credentials in more places than niche can check.
 */
export function ownAccess(context: Context): CacheAccess {
  return {
    hasCredentials: () => true,
    credentialsFor: (storageUrl) => environmentCredentials(storageUrl, context.env),
    loginFor: loginsOf(context),
    identities: [],
  };
}
