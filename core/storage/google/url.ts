import { NicheError, quote } from '../../errors.ts';
import { isKey } from '../keys.ts';

/** Where a bucket, or a prefix of one, is. */
export interface GoogleLocation {
  readonly bucket: string;
  /** Empty, or ends in `/`. */
  readonly prefix: string;
  /** The origin of the JSON API, without a slash at the end; absent for Google's own. */
  readonly endpoint?: string | undefined;
}

const form = 'gs://bucket/prefix?endpoint= (the prefix and the endpoint may be left out)';

/**
 * Reads `gs://bucket/prefix?endpoint=`.
 *
 * @throws NicheError `invalid-url`
 */
export function parseGoogleUrl(text: string): GoogleLocation {
  const url = URL.parse(text);
  if (url?.protocol !== 'gs:') throw invalid(`expected ${form}`);
  if (url.username !== '' || url.password !== '') {
    throw invalid(
      'a URL holds no credentials',
      'set GOOGLE_APPLICATION_CREDENTIALS to a service account key file',
    );
  }
  if (url.hash !== '') throw invalid(`expected ${form}, got a fragment`);
  if (!/^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$/.test(url.host)) {
    throw invalid(
      url.host === ''
        ? `the bucket is missing: expected ${form}`
        : `expected a bucket’s name of lower-case letters, digits, dashes, underscores and dots, got ${quote(url.host)}`,
    );
  }
  const path = url.pathname.replace(/^\/+|\/+$/g, '');
  if (path !== '' && !isKey(path)) {
    throw invalid(`expected a prefix that can begin an object’s name, got ${quote(path)}`);
  }
  const endpoint = readEndpoint(url.searchParams);
  return {
    bucket: url.host,
    prefix: path === '' ? '' : `${path}/`,
    ...(endpoint === undefined ? {} : { endpoint }),
  };
}

export function formatGoogleUrl({ bucket, prefix, endpoint }: GoogleLocation): string {
  const path = `gs://${bucket}${prefix === '' ? '' : `/${prefix.slice(0, -1)}`}`;
  return endpoint === undefined ? path : `${path}?endpoint=${endpoint}`;
}

/** Returns the origin of the JSON API, without a slash at the end. */
export function endpointOf({ endpoint }: GoogleLocation): string {
  return endpoint ?? 'https://storage.googleapis.com';
}

/** Whether the endpoint is Google itself. Tokens of this machine go to no other host. */
export function isGoogleItself(endpoint: string): boolean {
  const { protocol, hostname } = new URL(endpoint);
  return protocol === 'https:' && hostname.endsWith('.googleapis.com');
}

function readEndpoint(query: URLSearchParams): string | undefined {
  const unknown = [...query.keys()].find((name) => name !== 'endpoint');
  if (unknown !== undefined) {
    throw invalid(`expected ${form}, got the parameter ${quote(unknown)}`);
  }
  const [text, ...more] = query.getAll('endpoint');
  if (text === undefined) return undefined;
  const endpoint = URL.parse(text);
  const isOrigin =
    endpoint !== null &&
    /^https?:$/.test(endpoint.protocol) &&
    endpoint.href.replace(/\/$/, '') === endpoint.origin;
  if (more.length > 0 || !isOrigin) {
    throw invalid('expected one endpoint as https://storage.googleapis.com, without a path');
  }
  return endpoint.origin;
}

function invalid(why: string, hint?: string): NicheError {
  return new NicheError('invalid-url', `opening a Google bucket: ${why}`, {
    ...(hint === undefined ? {} : { hint }),
  });
}
