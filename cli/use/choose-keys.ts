import type { CacheConfig } from '../../core/cache/config.ts';
import { NicheError, quote } from '../../core/errors.ts';
import { trustedKeys } from '../cache/address.ts';
import type { CacheAddress } from '../cache/address.ts';
import { isNixConfigValue } from '../nix/nix-config.ts';
import type { CacheEntry } from './nix-conf.ts';

/**
 * The entry for nix.conf.
 *
 * @throws NicheError `wrong-key` when the cache does not name a pinned key; `malformed-config` when
 *   nix.conf cannot carry what the cache says
 */
export function entryFor(named: CacheAddress, config: CacheConfig): CacheEntry {
  const { url } = named;
  const entry: CacheEntry = {
    name: config.name,
    // What Nix can read is used as it was named; of a storage, the cache says where it is read.
    substituter: /^(?:https?|file):/i.test(url) ? url : config.substituter,
    publicKeys: trustedKeys(named, config),
  };
  const unfit = [entry.substituter, ...entry.publicKeys].find((value) => !isNixConfigValue(value));
  if (unfit !== undefined) {
    throw new NicheError(
      'malformed-config',
      `nix.conf cannot carry ${quote(unfit)}: expected neither white space nor "#" in it`,
    );
  }
  return entry;
}
