import type { CacheConfig } from '../../core/cache/config.ts';
import { NicheError, messageOf, quote } from '../../core/errors.ts';
import { parsePublicKey } from '../../core/nix/keys.ts';
import { cacheUrl } from '../cache-url.ts';
import type { Context } from '../context.ts';
import { isNixConfigValue } from '../nix/nix-config.ts';
import type { CacheEntry } from './nix-conf.ts';

/** A cache as the user named it. */
export interface NamedCache {
  readonly url: string;
  /** Public keys that the user vouches for. */
  readonly pinned: readonly string[];
}

/**
 * Takes `URL#KEY` apart.
 *
 * @throws NicheError `malformed-key`; `usage` when no cache is named
 */
export function nameCache(
  text: string | undefined,
  publicKeys: readonly string[],
  context: Context,
): NamedCache {
  const given = cacheUrl(text, context);
  // A path's own `#` has become %23 by now.
  const at = given.indexOf('#');
  const pinned = [...(at < 0 ? [] : [decodeKey(given.slice(at + 1))]), ...publicKeys];
  for (const key of pinned) parsePublicKey(key);
  return { url: (at < 0 ? given : given.slice(0, at)).replace(/(?<=[^/:])\/+$/, ''), pinned };
}

/**
 * The entry for nix.conf: the keys are those that were pinned, else all that the cache names.
 *
 * @throws NicheError `wrong-key` when the cache does not name a pinned one; `malformed-config` when
 *   nix.conf cannot carry what the cache says
 */
export function entryFor({ url, pinned }: NamedCache, config: CacheConfig): CacheEntry {
  const stray = pinned.filter((key) => !config.publicKeys.includes(key));
  if (stray.length > 0) {
    throw new NicheError(
      'wrong-key',
      `the cache at ${url} does not have the key that was given: expected ${stray.join(' and ')}, it names ${config.publicKeys.map(quote).join(', ')}`,
      {
        hint: 'if it has a new key, ask whoever runs the cache; else it is not the cache you mean',
      },
    );
  }
  const entry: CacheEntry = {
    name: config.name,
    // What Nix can read is used as it was named; of a storage, the cache says where it is read.
    substituter: /^(?:https?|file):/i.test(url) ? url : config.substituter,
    publicKeys: pinned.length > 0 ? [...new Set(pinned)] : config.publicKeys,
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

/** Whether whoever stands between could have swapped what was read from `url`. */
export function isPlainHttp(url: string): boolean {
  return /^http:/i.test(url);
}

/** Whether only this machine can read what is at `url`. */
export function isLocalUrl(url: string): boolean {
  const parsed = URL.parse(url);
  return (
    parsed?.protocol === 'file:' ||
    /^(?:localhost|127(?:\.[0-9]+){3}|\[::1\])$/.test(parsed?.hostname ?? '')
  );
}

function decodeKey(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch (cause) {
    throw new NicheError(
      'malformed-key',
      `reading the public key ${quote(text)} after the "#": ${messageOf(cause)}`,
      { cause },
    );
  }
}
