import { randomUUID } from 'node:crypto';
import { NicheError, isNicheError, quote } from '../errors.ts';
import { azureProvisioner } from './azure/provision.ts';
import { parseAzureUrl } from './azure/url.ts';
import type { Bucket } from './bucket.ts';
import type { AzureCredentials, OpenOptions } from './credentials.ts';
import { googleProvisioner } from './google/provision.ts';
import { parseGoogleUrl } from './google/url.ts';
import { openBucket } from './open.ts';
import { s3Provisioner } from './s3/provision.ts';
import { partBytes } from './s3/multipart-upload.ts';
import { parseS3Url } from './s3/url.ts';

/** What has to be known of a storage to put a new cache there. */
export interface StorageProvisioner {
  /** In one form. */
  readonly url: string;
  /** Where readers without credentials find it; null where only the provider's console tells. */
  readonly publicUrl: string | null;
  /** The place beside it that nobody else reads. */
  readonly privateUrl: string;
  /** How to let everyone read it by hand; a sentence without its full stop. */
  readonly publicAdvice: string;
  /** What clients may be allowed here and no more, to stage and to read receipts; as `publicAdvice`. */
  readonly uploadRights: string;
  /**
   * Makes credentials for clients, allowed just that, where it takes no more than what opened this.
   *
   * @param expires when they are worth nothing any more
   * @returns null where whoever runs the storage has to make them
   */
  createUploadCredentials(expires: Date): Promise<AzureCredentials | null>;
  /** Whether it is known which conditional writes it honours; else {@link probeConditionalWrites} finds out. */
  readonly isCertain: boolean;
  /** What its URL says of them. */
  readonly stated?: ConditionalWrites | undefined;
  /** Its URL, saying so. */
  withConditions(conditional: ConditionalWrites): string;
  /** Makes the bucket if there is none, and lets everyone read it where the provider allows that. */
  create(isPublic: boolean): Promise<ProvisionedBucket>;
}

export interface ProvisionedBucket {
  readonly isNew: boolean;
  /** Why it is not readable for everyone, where it should be. */
  readonly notPublic?: string;
}

/** Which writes a storage makes conditional on what is there: all, single ones, none. */
export type ConditionalWrites = 'yes' | 'put' | 'no';

/**
 * The place at `url`, as `s3://acme`.
 *
 * @throws NicheError `invalid-url`, also for kinds of storage in which niche makes no cache
 */
export function openProvisioner(url: string, options: OpenOptions = {}): StorageProvisioner {
  const place = places.find(({ scheme }) => url.startsWith(scheme));
  if (place) return place.open(url, options);
  throw new NicheError(
    'invalid-url',
    `making a cache: expected a storage’s URL, got ${quote(url)}`,
    {
      hint: `as file:///srv/cache, or one that begins with ${places.map(({ scheme }) => scheme).join(', ')}`,
    },
  );
}

const places: readonly {
  readonly scheme: string;
  readonly open: (url: string, options: OpenOptions) => StorageProvisioner;
}[] = [
  { scheme: 's3://', open: (url, options) => s3Provisioner(parseS3Url(url), options) },
  { scheme: 'azure://', open: (url, options) => azureProvisioner(parseAzureUrl(url), options) },
  { scheme: 'gs://', open: (url, options) => googleProvisioner(parseGoogleUrl(url), options) },
];

/**
 * The place's URL, with what its server does with conditions where only trying tells: some heed them,
 * some refuse them, and some ignore them, which no answer of theirs would ever show.
 *
 * @throws NicheError `usage` where the URL says more than the server does, and what storage throws
 */
export async function probeConditionalWrites(
  place: StorageProvisioner,
  options: OpenOptions = {},
): Promise<string> {
  const { stated, url } = place;
  if (place.isCertain) return url;
  const found = await probeConditions(openBucket(place.withConditions('yes'), options));
  if (stated === undefined) return place.withConditions(found);
  if (byStrength.indexOf(found) >= byStrength.indexOf(stated)) return url;
  const does =
    found === 'put' ? 'heeds the conditions of single writes alone' : 'heeds no condition';
  throw new NicheError(
    'usage',
    `${url} says conditional=${stated}, but its server ${does}: two publishers would overwrite each other’s objects`,
    { hint: `write conditional=${found}, or leave it out: niche init finds it out` },
  );
}

const byStrength: readonly ConditionalWrites[] = ['no', 'put', 'yes'];

/** Tries each kind of write with a condition that does not hold. Leaves nothing. */
async function probeConditions(bucket: Bucket): Promise<ConditionalWrites> {
  const key = `niche-probe-${randomUUID()}`;
  await bucket.put(key, probe);
  try {
    return await probeWith(bucket, key);
  } finally {
    await bucket.delete([key]);
  }
}

/** @param key of an object that is there */
async function probeWith(bucket: Bucket, key: string): Promise<ConditionalWrites> {
  const create = { ifAbsent: true };
  const isHeeded = await isRefused(async () => bucket.put(key, probe, create));
  if (!isHeeded || (await bucket.replace(key, probe, '"0"')) !== 'changed') return 'no';
  const upload = await bucket.upload(key);
  try {
    await upload.write(Buffer.alloc(partBytes + 1));
    return (await isRefused(async () => upload.commit(create))) ? 'yes' : 'put';
  } finally {
    await upload.abort();
  }
}

const probe = Buffer.from('niche tries what this storage can do\n');

/** Whether what is there stands in the way of `write`; a server may also not know the condition. */
async function isRefused(write: () => Promise<string>): Promise<boolean> {
  try {
    return (await write()) === 'exists';
  } catch (error) {
    const { $response } = ((error as Error).cause ?? {}) as { $response?: { statusCode?: number } };
    if (isNicheError(error, 'storage-unavailable') && $response?.statusCode === 501) return false;
    throw error;
  }
}
