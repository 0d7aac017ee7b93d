import { NicheError, quote } from '../../errors.ts';
import { drivers } from './drivers.ts';
import { isKey } from '../keys.ts';
import type { HostParts, PublicHost, PublicLocation } from '../public-host.ts';

/**
 * Returns the storage behind the URL at which clients read a cache, such as
 * `https://acme.s3.amazonaws.com`.
 *
 * @param url begins with `http://` or `https://`
 * @returns a URL for `openBucket`; null for a host of the cache's own (a custom domain, a server at
 *   home), whose `niche.json` specifies the storage
 * @throws NicheError `invalid-url` where the URL is that of a known storage, but not of a cache in it
 */
export function storageUrlOf(url: string): string | null {
  const parsed = /^https?:\/\//i.test(url) ? URL.parse(url) : null;
  if (parsed === null) throw refusal(`expected https://host/path, got ${shown(url)}`);
  const { hostname: host, username, password } = parsed;
  const isConsole = drivers.some(({ consoleHosts }) =>
    consoleHosts?.some((pattern) => pattern.test(host)),
  );
  if (isConsole) {
    const examples = drivers.map(({ example }) => example).join(', ');
    throw refusal(
      `${host} is a web console, not the bucket`,
      `write the bucket’s URL: ${examples}`,
    );
  }
  for (const known of drivers.flatMap(({ publicHosts }) => publicHosts ?? [])) {
    const match = known.host.exec(host);
    if (!match) continue;
    if (username !== '' || password !== '') {
      throw refusal('a URL must not contain credentials', credentialsElsewhere);
    }
    if (parsed.search !== '' || parsed.hash !== '') {
      throw refusal(
        `expected the bucket's plain URL, got ${host} with a query or a fragment`,
        credentialsElsewhere,
      );
    }
    const { bucket, ...parts } = (match.groups ?? {}) as HostParts;
    const path = segmentsOf(parsed, known.pathStart ?? []);
    const location = locationOf(known, bucket, path, parsed);
    return known.storageUrl({ ...location, ...parts, host });
  }
  return null;
}

function locationOf(
  { noun = 'bucket' }: PublicHost,
  ofHost: string | undefined,
  path: readonly string[],
  { origin, hostname }: URL,
): PublicLocation {
  const [first] = path;
  if (ofHost !== undefined && first === ofHost) {
    throw refusal(
      `the ${noun} ${quote(ofHost)} appears twice, in the host and in the path`,
      `write ${origin}${path.length > 1 ? `/${path.slice(1).join('/')}` : ''}`,
    );
  }
  const bucket = ofHost ?? first;
  if (bucket === undefined) {
    throw refusal(
      `the ${noun} is missing: ${origin} is the whole storage`,
      `append its name: ${origin}/<${noun}>`,
    );
  }
  const rest = ofHost === undefined ? path.slice(1) : path;
  return { bucket, prefix: rest.map((segment) => `/${segment}`).join(''), host: hostname };
}

/** Returns the path's segments after `start`. */
function segmentsOf({ pathname, origin }: URL, start: readonly string[]): string[] {
  const path = pathname.replace(/\/+$/, '').slice(1);
  const segments = path === '' ? [] : path.split('/');
  if (start.some((part, at) => segments[at] !== part)) {
    throw refusal(
      `expected ${origin}/${start.join('/')}/<bucket>, got the path ${quote(pathname)}`,
    );
  }
  const file = segments.at(-1);
  if (
    file !== undefined &&
    /^(?:nix-cache-info|niche(?:\.client)?\.json|.*\.narinfo)$/.test(file)
  ) {
    const cache = segments.slice(0, -1).join('/');
    throw refusal(
      `expected the cache, got its file ${quote(file)}`,
      `write ${origin}${cache === '' ? '' : `/${cache}`}`,
    );
  }
  if (path !== '' && !isKey(path)) {
    throw refusal(`expected a path of plain segments, got ${quote(pathname)}`);
  }
  return segments.slice(start.length);
}

const credentialsElsewhere =
  'give credentials in the environment, or in the cache’s encrypted document';

/** Quotes the URL without what may be a secret. */
function shown(url: string): string {
  return quote(url.replace(/[?#].*$/s, '').replace(/\/\/[^/]*@/, '//'));
}

function refusal(why: string, hint?: string): NicheError {
  return new NicheError(
    'invalid-url',
    `reading a cache's URL: ${why}`,
    hint === undefined ? {} : { hint },
  );
}
