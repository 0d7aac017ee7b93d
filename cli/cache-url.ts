import path from 'node:path';
import { pathToFileURL } from 'node:url';

import { NicheError } from '../core/errors.ts';
import { nonEmpty } from './nix/environment.ts';
import type { Context } from './context.ts';

/**
 * The cache that a command is for: its `-u`, or `NICHE_CACHE_URL`.
 *
 * @throws NicheError `usage` when neither is given
 */
export function cacheUrl(option: string | undefined, context: Context): string {
  const given = option ?? nonEmpty(context.env['NICHE_CACHE_URL']);
  if (given === undefined) {
    throw new NicheError('usage', 'which cache? none was named', {
      hint: 'give its URL with -u URL, or set NICHE_CACHE_URL',
    });
  }
  return normalizeCacheUrl(given, context.cwd);
}

/** Completes what people type: a path means a directory, no scheme means https. */
export function normalizeCacheUrl(text: string, cwd: string): string {
  if (/^[./~]/.test(text)) return pathToFileURL(path.resolve(cwd, text)).href;
  if (/^file:\/\//i.test(text) && URL.canParse(text)) {
    // One directory, one name: without `..`, as nix will be told it.
    return new URL(text).href.replace(/(?<=[^/])\/+$/, '');
  }
  if (/^[a-z0-9]+:/i.test(text)) return text.replace(/(?<=[^/:])\/+$/, '');
  return `https://${text}`.replace(/\/+$/, '');
}
