import { NicheError, quote } from '../errors.ts';
import { isKey } from './keys.ts';

/**
 * The storage behind a URL by which readers know a cache, as `https://acme.s3.amazonaws.com`.
 *
 * @param url begins with `http://` or `https://`
 * @returns a storage URL for `openBucket`; null where the host is the cache's own (a custom domain, a
 *   server at home), whose `niche.json` names the storage
 * @throws NicheError `invalid-url` where a known storage is named in a way that cannot be meant
 */
export function storageUrlOf(url: string): string | null {
  const parsed = /^https?:\/\//i.test(url) ? URL.parse(url) : null;
  if (parsed === null) throw refusal(`expected https://host/path, got ${shown(url)}`);
  const { hostname: host, username, password } = parsed;
  const console = consoles.find((pattern) => pattern.test(host));
  if (console) {
    throw refusal(`${host} is a console for people, not the bucket`, bucketAsUrl);
  }
  for (const provider of providers) {
    const match = provider.host.exec(host);
    if (!match) continue;
    if (username !== '' || password !== '') {
      throw refusal('a URL holds no credentials', credentialsElsewhere);
    }
    if (parsed.search !== '' || parsed.hash !== '') {
      throw refusal(
        `expected the bucket's plain URL, got ${host} with a query or a fragment`,
        credentialsElsewhere,
      );
    }
    const { bucket, ...parts } = (match.groups ?? {}) as HostParts;
    const path = segmentsOf(parsed, provider.pathStart ?? []);
    const place = placeOf(provider, bucket, path, parsed);
    return provider.storage({ ...place, ...parts, host });
  }
  return null;
}

interface HostParts {
  readonly bucket?: string;
  readonly region?: string;
  readonly account?: string;
}

/** A bucket, or a prefix of one, as a URL names it. */
interface Place extends HostParts {
  readonly bucket: string;
  /** Empty, or begins with `/`. */
  readonly prefix: string;
  readonly host: string;
}

interface Provider {
  /** Its groups are {@link HostParts}; where the host holds no bucket, the path begins with it. */
  readonly host: RegExp;
  /** What the path begins with, before the bucket. */
  readonly pathStart?: readonly string[];
  /** What a bucket is called there. @default bucket */
  readonly noun?: string;
  readonly storage: (place: Place) => string | null;
}

const region = '[a-z]{2,}(?:-[a-z]+)*-[0-9]+';

/** Hosts by which the storages are known; the first that matches holds. */
const providers: readonly Provider[] = [
  {
    // Also `s3-eu-west-1`, `s3.dualstack.eu-west-1`, websites and accelerated ones.
    host: new RegExp(
      `^(?:(?<bucket>.+?)\\.)?s3(?:-accelerate|-website|-fips)?(?:\\.dualstack)?(?:[.-](?<region>${region}))?\\.amazonaws\\.com(?:\\.cn)?$`,
    ),
    storage: ({ bucket, prefix, region }) => s3Url(bucket, prefix, { region }),
  },
  {
    host: new RegExp(`^(?:(?<bucket>.+?)\\.)?s3\\.(?<region>${region})\\.backblazeb2\\.com$`),
    storage: ({ bucket, prefix, region }) => s3Url(bucket, prefix, { provider: 'b2', region }),
  },
  {
    // B2's own download address, which numbers its clusters.
    host: /^f(?<region>[0-9]{3})\.backblazeb2\.com$/,
    pathStart: ['file'],
    storage({ bucket, prefix, region: cluster }) {
      const named = b2Regions.find((name) => name.endsWith(`-${cluster ?? ''}`));
      return named === undefined ? null : s3Url(bucket, prefix, { provider: 'b2', region: named });
    },
  },
  {
    host: new RegExp(`^(?:(?<bucket>.+?)\\.)?s3(?:\\.(?<region>${region}))?\\.wasabisys\\.com$`),
    storage: ({ bucket, prefix, region }) => s3Url(bucket, prefix, { provider: 'wasabi', region }),
  },
  {
    host: /^(?:(?<bucket>.+)\.)?(?<account>[0-9a-f]{32}(?:\.(?:eu|fedramp))?)\.r2\.cloudflarestorage\.com$/,
    storage: ({ bucket, prefix, account = '' }) =>
      s3Url(bucket, prefix, {
        provider: 'r2',
        endpoint: `https://${account}.r2.cloudflarestorage.com`,
      }),
  },
  {
    host: /^(?<account>[a-z0-9]{3,24})\.blob\.core\.(?:windows\.net|chinacloudapi\.cn|usgovcloudapi\.net)$/,
    noun: 'container',
    storage: ({ bucket, prefix, account = '', host }) =>
      `azure://${account}/${bucket}${prefix}${host.endsWith('.windows.net') ? '' : `?endpoint=https://${host}`}`,
  },
  {
    host: /^(?:(?<bucket>.+)\.)?storage\.googleapis\.com$/,
    storage: ({ bucket, prefix }) => `gs://${bucket}${prefix}`,
  },
  {
    // For people who are signed in: no reader of a cache, but it names a bucket all the same.
    host: /^storage\.cloud\.google\.com$/,
    storage: ({ bucket, prefix }) => `gs://${bucket}${prefix}`,
  },
];

/** By their numbers they are found; a region that is not here has its S3 address to be named by. */
const b2Regions = [
  'us-west-000',
  'us-west-001',
  'us-west-002',
  'eu-central-003',
  'us-west-004',
  'us-east-005',
  'ca-east-006',
];

/** Where people look at their buckets, and copy the wrong address from. */
const consoles = [
  /(?:^|\.)console\.aws\.amazon\.com$/,
  /^console\.cloud\.google\.com$/,
  /^portal\.azure\.com$/,
  /^(?:secure|www)\.backblaze\.com$/,
  /^(?:dash|www)\.cloudflare\.com$/,
  /^console\.wasabisys\.com$/,
];

function placeOf(
  { noun = 'bucket' }: Provider,
  ofHost: string | undefined,
  path: readonly string[],
  { origin, hostname }: URL,
): Place {
  const [first] = path;
  if (ofHost !== undefined && first === ofHost) {
    throw refusal(
      `the ${noun} ${quote(ofHost)} is there twice, in the host and in the path`,
      `write ${origin}${path.length > 1 ? `/${path.slice(1).join('/')}` : ''}`,
    );
  }
  const bucket = ofHost ?? first;
  if (bucket === undefined) {
    throw refusal(
      `the ${noun} is missing: ${origin} names the whole storage`,
      `write its name behind: ${origin}/<${noun}>`,
    );
  }
  const rest = ofHost === undefined ? path.slice(1) : path;
  return { bucket, prefix: rest.map((segment) => `/${segment}`).join(''), host: hostname };
}

/** The path's parts, after those that it begins with. */
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
    /^(?:nix-cache-info|niche(?:\.private)?\.json|.*\.narinfo)$/.test(file)
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

interface S3Parameters {
  readonly provider?: string;
  readonly region?: string | undefined;
  readonly endpoint?: string;
}

function s3Url(bucket: string, prefix: string, parameters: S3Parameters): string {
  const query = Object.entries(parameters as Record<string, string | undefined>).flatMap(
    ([name, value]) => (value === undefined ? [] : [`${name}=${value}`]),
  );
  return `s3://${bucket}${prefix}${query.length > 0 ? `?${query.join('&')}` : ''}`;
}

const credentialsElsewhere =
  'give credentials by the environment, or the cache’s encrypted document';
const bucketAsUrl =
  'name the bucket itself, as s3://bucket, azure://account/container or gs://bucket';

/** Without what may be a secret in it. */
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
