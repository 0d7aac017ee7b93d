import path from 'node:path';
import { pathToFileURL } from 'node:url';

import type { CacheConfig } from '../core/cache/config.ts';
import { NicheError, messageOf, quote } from '../core/errors.ts';
import { parsePublicKey } from '../core/nix/keys.ts';
import { shellWord } from '../core/util/shell.ts';
import { storageUrlOf } from '../core/storage/discover-url.ts';
import { nonEmpty } from './environment.ts';
import type { Context } from './context.ts';

/** A cache as the user named it. */
export interface NamedCache {
  readonly url: string;
  /** Public keys that the user vouches for. */
  readonly pinned: readonly string[];
}

/**
 * The cache that a command is for, its `-u` or `NICHE_CACHE_URL`, as URL or `URL#KEY`.
 *
 * @param publicKeys what `--public-key` gives
 * @throws NicheError `usage` when no cache is named; `invalid-url`; `malformed-key`
 */
export function nameCache(
  option: string | undefined,
  publicKeys: readonly string[],
  context: Context,
): NamedCache {
  const text = named(option, context);
  if (text === undefined) {
    throw new NicheError('usage', 'which cache? none was named', {
      hint: 'give its URL (--help shows how), or set NICHE_CACHE_URL',
    });
  }
  const given = normalizeCacheUrl(text, context.cwd);
  // A path's own `#` has become %23 by now.
  const at = given.indexOf('#');
  const pinned = [...(at < 0 ? [] : [decodeKey(given.slice(at + 1))]), ...publicKeys];
  for (const key of pinned) parsePublicKey(key);
  const url = withoutSlashes(at < 0 ? given : given.slice(0, at));
  // Where the URL cannot be meant so, better now than as an answer of some server.
  if (isWebUrl(url)) storageUrlOf(url);
  return { url, pinned: [...new Set(pinned)] };
}

/**
 * What names the same cache in a command that is printed, with a space before it: nothing without `-u`, since
 * the variable that named the cache names it for the next command too.
 */
export function sameCache(option: string | undefined): string {
  return option === undefined ? '' : ` -u ${shellWord(option)}`;
}

/**
 * Refuses the cache among what a command is told of it: there it is named by an option, where most commands
 * that only read take it as an argument.
 *
 * @param command as in `niche <command>`
 * @param expected what the arguments are
 * @throws NicheError `usage`
 */
export function assertNoUrls(args: readonly string[], command: string, expected: string): void {
  const url = args.find((arg) => /^[a-z][a-z0-9+]*:\/\//.test(arg));
  if (url === undefined) return;
  throw new NicheError('usage', `expected ${expected}, got a URL: ${quote(url)}`, {
    hint: `name the cache with -u: niche ${command} -u ${shellWord(url)}`,
  });
}

/** Whether {@link nameCache} has an answer. */
export function isCacheNamed(option: string | undefined, context: Context): boolean {
  return named(option, context) !== undefined;
}

function named(option: string | undefined, { env }: Context): string | undefined {
  return nonEmpty(option) ?? nonEmpty(env['NICHE_CACHE_URL']);
}

/**
 * The public keys by which to judge what the cache has: those that were pinned, else all that it
 * names.
 *
 * @throws NicheError `wrong-key` when the cache does not name a pinned one
 */
export function keysOf(
  { url, pinned }: NamedCache,
  { publicKeys }: Pick<CacheConfig, 'publicKeys'>,
): readonly string[] {
  const stray = pinned.filter((key) => !publicKeys.includes(key));
  if (stray.length > 0) {
    throw new NicheError(
      'wrong-key',
      `the cache at ${url} does not have the key that was given: expected ${stray.join(' and ')}, it names ${publicKeys.map(quote).join(', ')}`,
      {
        hint: 'if it has a new key, ask whoever runs the cache; else it is not the cache you mean',
      },
    );
  }
  return pinned.length > 0 ? pinned : publicKeys;
}

/**
 * Refuses keys that may have been swapped on their way here.
 *
 * @throws NicheError `usage` where they came over plain HTTP, from another machine, and none is pinned
 */
export function assertKeysSure(
  { url, pinned }: NamedCache,
  config?: Pick<CacheConfig, 'publicKeys'>,
): void {
  if (!isPlainHttp(url) || isLocalUrl(url) || pinned.length > 0) return;
  const named = config ? `; the cache names ${config.publicKeys.join(' ')}` : '';
  throw new NicheError(
    'usage',
    `whoever stands between here and ${url} could have swapped its public keys: expected one to compare them with`,
    {
      hint: `ask whoever runs the cache for its key, and give it with --public-key or as ${url}#KEY${named}`,
    },
  );
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

/** Whether `url` is of a web server, which may or may not have a storage behind it. */
export function isWebUrl(url: string): boolean {
  return /^https?:/i.test(url);
}

/**
 * Completes what people type: a path that begins with `.` or `/` means a directory, a host without
 * a scheme means https.
 *
 * @throws NicheError `usage` for what is neither
 */
export function normalizeCacheUrl(text: string, cwd: string): string {
  if (/^[./]/.test(text)) return pathToFileURL(path.resolve(cwd, text)).href;
  if (/^file:\/\//i.test(text) && URL.canParse(text)) {
    // One directory, one name: without `..`, as nix will be told it.
    return new URL(text).href.replace(/(?<=[^/])\/+$/, '');
  }
  const isHostWithPort = /^[a-z0-9.-]+:[0-9]{1,5}(?:\/|$)/i.test(text);
  if (/^[a-z0-9]+:/i.test(text) && !isHostWithPort) return withoutSlashes(text);
  const isHost = isHostWithPort || /^[^/]*[^/.]\.[^/.][^/]*(?:\/|$)/.test(text);
  if (isHost) return `https://${text}`.replace(/\/+$/, '');
  throw new NicheError('usage', `which cache? expected a URL or a path, got ${quote(text)}`, {
    hint: 'a path begins with "/" or "./"; a URL with https:// or file://',
  });
}

function withoutSlashes(url: string): string {
  return url.replace(/(?<=[^/:])\/+$/, '');
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
