import { fileURLToPath } from 'node:url';
import { NicheError, quote } from '../errors.ts';
import { openAzureBucket } from './azure/driver.ts';
import type { Bucket } from './bucket.ts';
import type { OpenOptions } from './credentials.ts';
import { openFileBucket } from './file/driver.ts';
import { openS3Bucket } from './s3/driver.ts';
import { parseS3Url } from './s3/url.ts';
import { openGoogleBucket } from './google/driver.ts';

/** @param options what no URL should hold */
type Opener = (url: URL, options: OpenOptions) => Bucket;

/** What each scheme opens; a driver is registered here and nowhere else. */
const openers: ReadonlyMap<string, Opener> = new Map<string, Opener>([
  ['file:', openFileUrl],
  ['azure:', (url, options) => openAzureBucket(url.href, options)],
  ['s3:', (url, options) => openS3Bucket(parseS3Url(url.href), options)],
  ['gs:', (url, options) => openGoogleBucket(url.href, options)],
]);

/**
 * The bucket at `url`, as `file:///srv/cache`. Nothing is looked at before the first request.
 *
 * @throws NicheError `invalid-url`
 */
export function openBucket(url: string, options: OpenOptions = {}): Bucket {
  const parsed = URL.parse(url);
  const opener = parsed === null ? undefined : openers.get(parsed.protocol);
  // The parser takes `file:some/path` for an absolute one.
  if (parsed === null || opener === undefined || !/^[a-z0-9]+:\/\//i.test(url)) {
    const kinds = [...openers.keys()].map((protocol) => `${protocol}//`).join(', ');
    throw new NicheError(
      'invalid-url',
      `opening a bucket: expected a URL that begins with one of ${kinds}; got ${forPeople(parsed, url)}`,
      { hint: hintFor(url) },
    );
  }
  return opener(parsed, options);
}

/** What was meant, where that can be told. */
function hintFor(url: string): string {
  const [, scheme = '', rest = ''] = /^([a-z0-9]+):\/?([^/].*)$/i.exec(url) ?? [];
  const isKnown = scheme !== 'file' && openers.has(`${scheme}:`);
  return isKnown && !/[@?#]/.test(url)
    ? `write ${scheme}://${rest}`
    : 'for a directory write file:///absolute/path';
}

function openFileUrl(url: URL): Bucket {
  const isBare = url.search === '' && url.hash === '';
  try {
    const path = fileURLToPath(url);
    if (isBare && !path.includes('\0')) return openFileBucket(path);
  } catch (cause) {
    throw refusal(url, { cause });
  }
  throw refusal(url);
}

function refusal(url: URL, options?: ErrorOptions): NicheError {
  return new NicheError(
    'invalid-url',
    `opening a bucket: expected file:///absolute/path and nothing more; got ${quote(url.href)}`,
    options,
  );
}

/** Without a password or a token, which other kinds of URL may hold. */
function forPeople(parsed: URL | null, url: string): string {
  const mayHoldSecret = parsed !== null && /[@?#]/.test(url);
  return quote(mayHoldSecret ? `${parsed.protocol}//${parsed.host}${parsed.pathname}` : url);
}
