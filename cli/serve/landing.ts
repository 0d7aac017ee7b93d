import type { CacheConfig } from '../../core/cache/config.ts';

/** Returns the page for people who open the cache's URL in a browser. */
export function landingText(config: CacheConfig, url: string): string {
  return `${config.name}: a Nix binary cache for ${config.storeDir}

public keys:
${config.publicKeys.map((key) => `  ${key}`).join('\n')}

To use it, with niche:
  niche use ${url}

or in nix.conf:
  extra-substituters = ${url}
  extra-trusted-public-keys = ${config.publicKeys.join(' ')}
`;
}
