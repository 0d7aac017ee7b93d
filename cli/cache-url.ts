import path from 'node:path';
import { pathToFileURL } from 'node:url';

import { NicheError, quote } from '../core/errors.ts';
import { nonEmpty } from './nix/environment.ts';
import type { Context } from './context.ts';

/**
 * The cache that a command is for: its `-u`, or `NICHE_CACHE_URL`.
 *
 * @throws NicheError `usage` when neither is given
 */
export function cacheUrl(option: string | undefined, context: Context): string {
  const given = named(option, context);
  if (given === undefined) {
    throw new NicheError('usage', 'which cache? none was named', {
      hint: 'give its URL (--help shows how), or set NICHE_CACHE_URL',
    });
  }
  return normalizeCacheUrl(given, context.cwd);
}

/** Whether {@link cacheUrl} has an answer. */
export function isCacheNamed(option: string | undefined, context: Context): boolean {
  return named(option, context) !== undefined;
}

function named(option: string | undefined, { env }: Context): string | undefined {
  return nonEmpty(option) ?? nonEmpty(env['NICHE_CACHE_URL']);
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
  if (/^[a-z0-9]+:/i.test(text)) return text.replace(/(?<=[^/:])\/+$/, '');
  const isHost = /^[^/]*[^/.]\.[^/.][^/]*(?:\/|$)/.test(text);
  if (isHost) return `https://${text}`.replace(/\/+$/, '');
  throw new NicheError('usage', `which cache? expected a URL or a path, got ${quote(text)}`, {
    hint: 'a path begins with "/" or "./"; a URL with https:// or file://',
  });
}
