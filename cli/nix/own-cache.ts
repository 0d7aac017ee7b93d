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
 * is empty unless an administrator allowed this substituter: Nix would ignore it with a warning.
 */
export function ownCacheConfig(
  { trusted, settings }: Pick<Nix, 'trusted' | 'settings'>,
  { substituter, publicKeys }: OwnCache,
): readonly NixConfigEntry[] {
  const substitute: NixConfigEntry = ['extra-substituters', substituter];
  if (trusted) return [substitute, ['extra-trusted-public-keys', publicKeys.join(' ')]];
  return settings.trustedSubstituters.includes(substituter) ? [substitute] : [];
}
