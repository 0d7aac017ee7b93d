import type { NixConfigEntry } from './nix-config.ts';
import type { Nix } from './nix.ts';

export interface OwnCache {
  /** The URL that nix substitutes from. */
  readonly substituter: string;
  /** Each `<key name>:<base64>`. */
  readonly publicKeys: readonly string[];
}

/**
 * The configuration by which a build takes what `cache` has. For a user whom nix does not trust it
 * is empty, unless an administrator allowed this substituter: nix would only warn.
 */
export function ownCacheConfig(
  { trusted, settings }: Pick<Nix, 'trusted' | 'settings'>,
  { substituter, publicKeys }: OwnCache,
): readonly NixConfigEntry[] {
  const substitute: NixConfigEntry = ['extra-substituters', substituter];
  if (trusted) return [substitute, ['extra-trusted-public-keys', publicKeys.join(' ')]];
  return settings.trustedSubstituters.includes(substituter) ? [substitute] : [];
}
