import { NicheError, quote } from '../../errors.ts';
import type { Bucket } from '../bucket.ts';
import type { OpenOptions } from '../credentials.ts';
import type { StorageDriver } from '../driver.ts';
import { drivers } from './drivers.ts';

/**
 * Opens the bucket at `url`, such as `file:///srv/cache`. Sends no request.
 *
 * @throws NicheError `invalid-url`; `usage` for credentials of another storage
 */
export function openBucket(url: string, options: OpenOptions = {}): Bucket {
  const driver = findDriver(url);
  if (driver !== undefined) return driver.open(url, options);
  const parsed = URL.parse(url);
  const schemes = drivers.map(({ protocol }) => `${protocol}//`).join(', ');
  throw new NicheError(
    'invalid-url',
    `opening a bucket: expected a URL that begins with one of ${schemes}; got ${shown(parsed, url)}`,
    { hint: hintFor(url) },
  );
}

/** Returns the driver for `url`; undefined where none has its scheme, or no `//` follows it. */
export function findDriver(url: string): StorageDriver | undefined {
  const scheme = /^[a-z0-9]+:(?=\/\/)/i.exec(url)?.[0].toLowerCase();
  return URL.canParse(url) ? drivers.find(({ protocol }) => protocol === scheme) : undefined;
}

/** Suggests the URL that was probably meant. */
function hintFor(url: string): string {
  const [, scheme = '', rest = ''] = /^([a-z0-9]+):\/?([^/].*)$/i.exec(url) ?? [];
  const isKnown = scheme !== 'file' && drivers.some(({ protocol }) => protocol === `${scheme}:`);
  return isKnown && !/[@?#]/.test(url)
    ? `write ${scheme}://${rest}`
    : 'for a directory write file:///absolute/path';
}

/** Quotes a URL without a password or a token, which other kinds of URL may hold. */
function shown(parsed: URL | null, url: string): string {
  const mayHoldSecret = parsed !== null && /[@?#]/.test(url);
  return quote(mayHoldSecret ? `${parsed.protocol}//${parsed.host}${parsed.pathname}` : url);
}
