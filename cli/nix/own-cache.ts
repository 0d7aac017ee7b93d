import { isSameStore } from '../../core/nix/store-url.ts';
import type { NixConfigEntry } from './nix-config.ts';
import type { Nix } from './nix.ts';

export interface OwnCache {
  /** The URL that Nix substitutes from. */
  readonly substituter: string;
  /** Each `<key name>:<base64>`. */
  readonly publicKeys: readonly string[];
}

/**
 * Returns the Nix configuration that lets a build substitute from the cache. For an untrusted user it
 * is empty unless an administrator allowed this substituter: Nix would ignore it with a warning. Nix
 * compares the texts of URLs, so a substituter in its settings is spelled as it is there.
 */
export function ownCacheConfig(
  { trusted, settings }: Pick<Nix, 'trusted' | 'settings'>,
  { substituter, publicKeys }: OwnCache,
): readonly NixConfigEntry[] {
  const spelledIn = (urls: readonly string[]): string | undefined =>
    urls.find((url) => isSameStore(url, substituter));
  const permitted = spelledIn(settings.trustedSubstituters);
  if (!trusted) return permitted === undefined ? [] : [['extra-substituters', permitted]];
  const url = spelledIn(settings.substituters) ?? permitted ?? substituter;
  return [
    ['extra-substituters', url],
    ['extra-trusted-public-keys', publicKeys.join(' ')],
  ];
}
