import { NicheError, quote } from '../errors.ts';
import { isRemotePlainHttp } from '../util/loopback.ts';

/**
 * Refuses to take the roots of a cache, or credentials for them, from a configuration that an attacker
 * on the network could have replaced. A pinned key does not help: it proves paths, not `niche.json`.
 *
 * @param url where the configuration is read
 * @throws NicheError `insecure-url` over plain HTTP from another machine
 */
export function assertNotForgeable(url: string): void {
  if (!isRemotePlainHttp(url)) return;
  throw new NicheError(
    'insecure-url',
    `opening the cache at ${quote(url)} failed: over plain HTTP an attacker could choose where uploads and credentials go`,
    {
      hint: 'specify the cache by an https:// URL, or by the URL of its storage, such as s3://bucket',
    },
  );
}
