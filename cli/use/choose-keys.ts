import type { CacheConfig } from '../../core/cache/config.ts';
import { NicheError, quote } from '../../core/errors.ts';
import { formatStoreUrl } from '../../core/nix/store-url.ts';
import { trustedKeys } from '../cache/address.ts';
import type { CacheAddress } from '../cache/address.ts';
import { isNixConfigValue } from '../nix/nix-config.ts';
import type { CacheEntry } from './nix-conf.ts';

/**
 * Returns the entry for nix.conf.
 *
 * @throws NicheError `wrong-key` when the cache lacks a pinned key; `malformed-config` when nix.conf
 *   cannot contain its URL or a key
 */
export function entryFor(address: CacheAddress, config: CacheConfig): CacheEntry {
  const { url, storeParameters: parameters = '' } = address;
  const entry: CacheEntry = {
    name: config.name,
    // Nix gets the given URL if it can read it; for storage, niche.json has the public URL.
    substituter: formatStoreUrl({
      url: /^(?:https?|file):/i.test(url) ? url : config.substituter,
      parameters,
    }),
    publicKeys: trustedKeys(address, config),
  };
  const invalid = [entry.substituter, ...entry.publicKeys].find(
    (value) => !isNixConfigValue(value),
  );
  if (invalid !== undefined) {
    throw new NicheError(
      'malformed-config',
      `nix.conf cannot contain ${quote(invalid)}: expected no white space and no "#"`,
    );
  }
  return entry;
}
