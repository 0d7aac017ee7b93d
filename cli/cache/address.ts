import path from 'node:path';
import { pathToFileURL } from 'node:url';

import type { CacheConfig } from '../../core/cache/config.ts';
import { NicheError, messageOf, quote } from '../../core/errors.ts';
import { parsePublicKey } from '../../core/nix/keys.ts';
import { parseStoreUrl } from '../../core/nix/store-url.ts';
import { isLoopbackHost, isRemotePlainHttp } from '../../core/util/loopback.ts';
import { shellWord } from '../../core/util/shell.ts';
import { hasCredentials } from '../../core/util/url-credentials.ts';
import { storageUrlOf } from '../../core/storage/open/discover-url.ts';
import { nonEmpty } from '../process/environment.ts';
import type { Context } from '../process/context.ts';

/** Which cache a command works on, and how far its keys are trusted. */
export interface CacheAddress {
  readonly url: string;
  /** Nix's parameters in the user's URL, as `priority=10`; absent without any. */
  readonly storeParameters?: string;
  /** Public keys that the user gave with the URL or with `--public-key`. */
  readonly pinnedKeys: readonly string[];
}

/**
 * Reads the cache that a command works on, `URL` or `URL#KEY`, from its `-u` or `NICHE_CACHE_URL`.
 *
 * @param publicKeys the values of `--public-key`
 * @throws NicheError `usage` when no cache is given; `invalid-url`; `malformed-key`
 */
export function parseCacheAddress(
  option: string | undefined,
  publicKeys: readonly string[],
  context: Context,
): CacheAddress {
  const text = givenCache(option, context);
  if (text === undefined) {
    throw new NicheError('usage', 'no cache given', { hint: 'pass -u URL or set NICHE_CACHE_URL' });
  }
  const complete = normalizeCacheUrl(text, context.cwd);
  const { parameters } = isPath(text) ? { parameters: '' } : parseStoreUrl(text);
  // In a path, normalizing has turned "#" into "%23".
  const at = complete.indexOf('#');
  const keys = [...(at < 0 ? [] : [decodeKey(complete.slice(at + 1))]), ...publicKeys];
  for (const key of keys) parsePublicKey(key);
  const url = withoutTrailingSlashes(at < 0 ? complete : complete.slice(0, at));
  // Refuses an unusable URL here, where the message is clearer than a server's error.
  if (isWebUrl(url)) storageUrlOf(url);
  return {
    url,
    ...(parameters === '' ? {} : { storeParameters: parameters }),
    pinnedKeys: [...new Set(keys)],
  };
}

/** Returns whether {@link parseCacheAddress} would find a cache. */
export function isCacheGiven(option: string | undefined, context: Context): boolean {
  return givenCache(option, context) !== undefined;
}

function givenCache(option: string | undefined, { env }: Context): string | undefined {
  return nonEmpty(option) ?? nonEmpty(env['NICHE_CACHE_URL']);
}

/**
 * Returns ` -u URL` for a command that niche prints, or nothing without `-u`: then the next command
 * finds the cache in `NICHE_CACHE_URL` too.
 */
export function printedCacheOption(option: string | undefined): string {
  return option === undefined ? '' : ` -u ${shellWord(option)}`;
}

/**
 * Refuses URLs among a command's arguments: users may expect to pass the cache as an argument.
 *
 * @param command as in `niche <command>`
 * @param expected what the arguments are
 * @throws NicheError `usage`
 */
export function assertNoUrls(args: readonly string[], command: string, expected: string): void {
  const url = args.find((arg) => /^[a-z][a-z0-9+]*:\/\//.test(arg));
  if (url === undefined) return;
  throw new NicheError('usage', `expected ${expected}, got a URL: ${quote(url)}`, {
    hint: `pass the cache with -u: niche ${command} -u ${shellWord(url)}`,
  });
}

/**
 * Returns the public keys to verify the cache's signatures with: the pinned ones, else all keys of
 * `niche.json`.
 *
 * @throws NicheError `wrong-key` when the cache lacks a pinned key
 */
export function trustedKeys(
  { url, pinnedKeys }: CacheAddress,
  { publicKeys }: Pick<CacheConfig, 'publicKeys'>,
): readonly string[] {
  const missing = pinnedKeys.filter((key) => !publicKeys.includes(key));
  if (missing.length > 0) {
    throw new NicheError(
      'wrong-key',
      `wrong public key for the cache at ${quote(url)}: expected ${list(missing)}, got ${list(publicKeys)}`,
      { hint: 'ask the cache’s administrator whether the key changed; if not, check the URL' },
    );
  }
  return pinnedKeys.length > 0 ? pinnedKeys : publicKeys;
}

/**
 * Refuses public keys that an attacker on the network could have replaced.
 *
 * @throws NicheError `usage` over plain HTTP from another machine without a pinned key
 */
export function assertKeysPinned(
  { url, pinnedKeys }: CacheAddress,
  config?: Pick<CacheConfig, 'publicKeys'>,
): void {
  if (!isRemotePlainHttp(url) || pinnedKeys.length > 0) return;
  const got = config ? `; the server sent ${list(config.publicKeys)}` : '';
  throw new NicheError(
    'usage',
    `cannot trust public keys sent over plain HTTP: expected a pinned key for ${quote(url)}`,
    { hint: `get the key from the cache’s administrator and pass it with --public-key${got}` },
  );
}

/** Returns whether only this machine can read `url`. */
export function isLocalUrl(url: string): boolean {
  const parsed = URL.parse(url);
  return parsed?.protocol === 'file:' || isLoopbackHost(parsed?.hostname ?? '');
}

/** Returns whether `url` is of a web server, which may or may not be object storage. */
export function isWebUrl(url: string): boolean {
  return /^https?:/i.test(url);
}

/**
 * Completes a cache URL: a path that begins with `.` or `/` becomes `file:`, a host without a scheme
 * becomes `https:`. Removes the parameters that only Nix uses, such as `priority`.
 *
 * @throws NicheError `usage` for anything else that is not a URL; `invalid-url` for a URL with a user or
 *   a password
 */
export function normalizeCacheUrl(given: string, cwd: string): string {
  if (isPath(given)) return pathToFileURL(path.resolve(cwd, given)).href;
  assertNoCredentials(given);
  const text = parseStoreUrl(given).url;
  if (/^file:\/\//i.test(text) && URL.canParse(text)) {
    // Resolves "..": a directory has one URL, the one that Nix gets as its substituter.
    return withoutTrailingSlashes(new URL(text).href);
  }
  const isHostWithPort = /^[a-z0-9.-]+:[0-9]{1,5}(?:\/|$)/i.test(text);
  if (/^[a-z0-9]+:/i.test(text) && !isHostWithPort) return withoutTrailingSlashes(text);
  const isHost = isHostWithPort || /^[^/]*[^/.]\.[^/.][^/]*(?:\/|$)/.test(text);
  if (isHost) return `https://${text}`.replace(/\/+$/, '');
  throw new NicheError('usage', `invalid cache: expected a URL or a path, got ${quote(text)}`, {
    hint: 'begin a path with "/" or "./", and a URL with "https://", "s3://" or "file://"',
  });
}

function isPath(text: string): boolean {
  return /^[./]/.test(text);
}

/** The URL of a cache is printed, logged and stored where everyone can read it. */
function assertNoCredentials(text: string): void {
  if (!hasCredentials(text)) return;
  throw new NicheError('invalid-url', 'invalid URL: it must not contain a user or a password', {
    hint: isWebUrl(text)
      ? 'remove them, and write them to a netrc file: niche use URL --netrc FILE'
      : 'remove them, and give credentials in the environment',
  });
}

function withoutTrailingSlashes(url: string): string {
  return url.replace(/(?<=[^/:])\/+$/, '');
}

function list(keys: readonly string[]): string {
  return keys.map(quote).join(', ');
}

function decodeKey(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch (cause) {
    throw new NicheError(
      'malformed-key',
      `invalid public key ${quote(text)} after "#": ${messageOf(cause)}`,
      { cause },
    );
  }
}
