import { NicheError, quote } from '../../errors.ts';
import type { RootUrls } from '../driver.ts';
import { isKey } from '../keys.ts';
import { isS3Provider, providerNames, s3Providers, type S3ProviderName } from './providers.ts';

const conditions = ['yes', 'put', 'no'] as const;
export type S3Conditional = (typeof conditions)[number];

/** Where a bucket, or a prefix of one, is. */
export interface S3Location {
  readonly bucket: string;
  /** Empty, or ends in `/`. */
  readonly prefix: string;
  readonly provider: S3ProviderName;
  readonly region?: string | undefined;
  /** Where the server answers, without a path; absent for AWS itself. */
  readonly endpoint?: string | undefined;
  /** A profile of the AWS tools. */
  readonly profile?: string | undefined;
  /** Which conditional writes the server honours, over its preset: all, only those of a PUT, or none. */
  readonly conditional?: S3Conditional | undefined;
}

const form =
  's3://bucket/prefix?region=&endpoint=&profile=&provider= (the prefix and each parameter may be left out)';

const parameters: ReadonlySet<string> = new Set([
  'region',
  'endpoint',
  'scheme',
  'profile',
  'provider',
  'conditional',
]);

/**
 * Reads `s3://bucket/prefix?…`. An endpoint without a scheme takes it from `scheme`, as in Nix's own
 * URLs, or is https.
 *
 * @throws NicheError `invalid-url`
 */
export function parseS3Url(text: string): S3Location {
  const url = URL.parse(text);
  if (url?.protocol !== 's3:') throw invalid(`expected ${form}`);
  if (url.username !== '' || url.password !== '') {
    throw invalid('a URL holds no credentials', {
      hint: 'give them by the environment, a profile, or the cache’s encrypted document',
    });
  }
  if (url.hash !== '') throw invalid(`expected ${form}, got a fragment`);
  const bucket = url.host;
  if (!/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/i.test(bucket)) {
    throw invalid(
      bucket === ''
        ? `the bucket is missing: expected ${form}`
        : `expected a bucket’s name of 3 to 63 letters, digits, dots and dashes, got ${quote(bucket)}`,
    );
  }
  const path = url.pathname.replace(/^\/+|\/+$/g, '');
  if (path !== '' && !isKey(path)) {
    throw invalid(`expected a prefix that can begin an object’s key, got ${quote(path)}`);
  }
  const query = readQuery(url.searchParams);
  const region = query.get('region');
  if (region !== undefined && !/^[A-Za-z0-9-]{1,64}$/.test(region)) {
    throw invalid(`expected a region as eu-central-1, got ${quote(region)}`);
  }
  const provider = query.get('provider');
  if (provider !== undefined && !isS3Provider(provider)) {
    throw invalid(`expected provider=${providerNames.join('|')}, got ${quote(provider)}`);
  }
  const condition = query.get('conditional');
  const conditional = conditions.find((each) => each === condition);
  if (condition !== conditional) {
    throw invalid(`expected conditional=${conditions.join('|')}, got ${quote(condition ?? '')}`);
  }
  const endpoint = endpointOf(query, bucket);
  const location: S3Location = {
    bucket,
    prefix: path === '' ? '' : `${path}/`,
    provider: provider ?? (endpoint === undefined ? 'aws' : 'other'),
    region,
    endpoint,
    profile: query.get('profile'),
    conditional,
  };
  assertReachable(location);
  return location;
}

/** Returns the normal form of a location's URL. */
export function formatS3Url(location: S3Location): string {
  const { bucket, prefix, provider, region, endpoint, profile, conditional } = location;
  const hasImpliedProvider = provider === (endpoint === undefined ? 'aws' : 'other');
  const query = Object.entries({
    region,
    endpoint,
    profile,
    provider: hasImpliedProvider ? undefined : provider,
    conditional,
  }).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name}=${encodeURIComponent(value).replace(/%3A|%2F/g, plain)}`],
  );
  const path = prefix === '' ? '' : `/${prefix.slice(0, -1)}`;
  return `s3://${bucket}${path}${query.length === 0 ? '' : `?${query.join('&')}`}`;
}

/**
 * Returns the recorded roots with the profile of the user's URL, and with its endpoint where a
 * root has that of the public one. A cache may have one address inside a network and another outside.
 *
 * @param publicUrl the user's URL of the public root
 * @param recorded the roots in the cache's configuration
 * @throws NicheError `invalid-url`
 */
export function adaptS3Roots(publicUrl: string, recorded: RootUrls): RootUrls {
  const { storage, staging, private: privateUrl } = recorded;
  if (![storage, staging, privateUrl].every((url) => url.startsWith('s3:'))) return recorded;
  const own = parseS3Url(publicUrl);
  const { endpoint } = parseS3Url(storage);
  const adapt = (url: string): string => {
    const location = parseS3Url(url);
    return formatS3Url({
      ...location,
      profile: own.profile ?? location.profile,
      endpoint:
        location.endpoint === endpoint ? (own.endpoint ?? location.endpoint) : location.endpoint,
    });
  };
  return { storage: adapt(storage), staging: adapt(staging), private: adapt(privateUrl) };
}

/** Returns the endpoint; undefined for AWS itself, which the SDK knows. */
export function s3Endpoint(location: S3Location): string | undefined {
  if (location.endpoint !== undefined) return location.endpoint;
  const region = s3Region(location);
  return region === undefined ? undefined : s3Providers[location.provider].endpoint?.(region);
}

/** Returns the region of the URL, or that of the preset. */
export function s3Region(location: S3Location): string | undefined {
  return location.region ?? s3Providers[location.provider].region;
}

/**
 * Returns the address for readers without credentials: virtual-hosted at AWS, by path elsewhere.
 *
 * @returns null where only the provider's console gives a bucket such an address
 */
export function s3PublicUrl(location: S3Location): string | null {
  const { bucket, prefix } = location;
  const path = prefix === '' ? '' : `/${prefix.slice(0, -1)}`;
  if (s3Providers[location.provider].publicRead === 'manual') return null;
  const endpoint = s3Endpoint(location);
  if (endpoint !== undefined) return `${endpoint}/${bucket}${path}`;
  const host = location.region === undefined ? 's3' : `s3.${location.region}`;
  const domain = location.region?.startsWith('cn-') === true ? 'amazonaws.com.cn' : 'amazonaws.com';
  // A certificate for *.s3… does not cover a name with a dot in it.
  return bucket.includes('.')
    ? `https://${host}.${domain}/${bucket}${path}`
    : `https://${bucket}.${host}.${domain}${path}`;
}

function readQuery(params: URLSearchParams): ReadonlyMap<string, string> {
  const query = new Map<string, string>();
  for (const [name, value] of params) {
    if (!parameters.has(name)) {
      throw invalid(`expected parameters of ${[...parameters].join(', ')}; got ${quote(name)}`);
    }
    if (query.has(name)) throw invalid(`${name}= is specified twice`);
    if (value !== '') query.set(name, value);
  }
  return query;
}

function endpointOf(query: ReadonlyMap<string, string>, bucket: string): string | undefined {
  const text = query.get('endpoint');
  if (text === undefined) return undefined;
  const scheme = query.get('scheme') ?? 'https';
  const full = /^https?:\/\//i.test(text) ? text : `${scheme}://${text}`;
  const url = URL.parse(full);
  if (url === null || !/^https?:$/.test(url.protocol) || url.username !== '' || url.search !== '') {
    throw invalid(
      `expected endpoint=https://host or endpoint=http://host:port, got ${quote(text)}`,
    );
  }
  const isTwice = url.pathname.split('/')[1] === bucket || url.hostname.startsWith(`${bucket}.`);
  if (isTwice) {
    throw invalid(`the bucket ${quote(bucket)} appears twice, in the URL and in the endpoint`, {
      hint: `leave it out of the endpoint, which is ${url.protocol}//${url.host.replace(`${bucket}.`, '')}`,
    });
  }
  if (url.pathname !== '/') {
    throw invalid(`expected an endpoint without a path, got ${quote(text)}`);
  }
  return url.origin;
}

/** @throws NicheError `invalid-url` when the preset needs a parameter that the URL lacks */
function assertReachable(location: S3Location): void {
  const { provider } = location;
  if (provider === 'aws' || s3Endpoint(location) !== undefined) return;
  const lacking = s3Providers[provider].endpoint ? 'region=' : 'endpoint=';
  throw invalid(`provider=${provider} also needs ${lacking}`);
}

function plain(encoded: string): string {
  return decodeURIComponent(encoded);
}

function invalid(what: string, options?: { readonly hint: string }): NicheError {
  return new NicheError('invalid-url', `opening an S3 bucket: ${what}`, options);
}
