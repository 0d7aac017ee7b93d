import { NicheError, isNicheError, quote } from '../errors.ts';
import { parseStoreUrl } from '../nix/store-url.ts';
import type { OpenDocument } from '../secrets/document.ts';
import type { Identity } from '../secrets/recipient.ts';
import type { Bucket, ObjectReader } from '../storage/bucket.ts';
import type { StorageCredentials } from '../storage/credentials.ts';
import { openHttpReader } from '../storage/http/reader.ts';
import type { RootUrls } from '../storage/driver.ts';
import { findDriver, openBucket } from '../storage/open/open-bucket.ts';
import { isRemotePlainHttp } from '../util/loopback.ts';
import type { FindLogin } from '../util/netrc.ts';
import { readConfig } from './config.ts';
import type { CacheConfig } from './config.ts';
import { deniedAsMissing } from './denied-as-missing.ts';
import { receiptPrefix } from './layout.ts';
import type { CacheBuckets, RootName } from './layout.ts';
import { assertNotForgeable } from './plain-http.ts';
import { guardRoots } from './roots.ts';
import { openSecret, clientDocument, readSecret } from './secret-documents.ts';
import type { ClientConfig } from './secret-documents.ts';
import { newUploadId } from './upload-id.ts';
import type { OutageWait } from './upstream-outage.ts';
import { createUpstreams } from './upstreams.ts';
import type { Upstreams } from './upstreams.ts';

/** The public part of a cache. */
export interface ReadableCache {
  readonly config: CacheConfig;
  /** Reads its public root: over HTTP or from the storage, as the user's URL specifies. */
  readonly reader: ObjectReader;
  readonly upstreams: Upstreams;
}

/** A cache with all of its roots. */
export interface OpenCache extends ReadableCache, CacheBuckets {}

/** The credentials and identities of this machine. */
export interface CacheAccess {
  /**
   * Whether this machine seems to have credentials for a storage, such as an AWS profile. They are
   * tried first.
   */
  readonly hasCredentials: (storageUrl: string) => boolean;
  /** Returns credentials that the storage's SDK would not find. @default none */
  readonly credentialsFor?: (storageUrl: string) => StorageCredentials | undefined;
  /** Returns the login for a cache over HTTP. @default none */
  readonly loginFor?: FindLogin;
  /** Decrypt `niche.client.json` where this machine has no credentials, or only refused ones. */
  readonly identities: readonly Identity[];
}

/** A machine that relies on its own credentials. */
const ownCredentials: CacheAccess = { hasCredentials: () => true, identities: [] };
const noCredentials: CacheAccess = { hasCredentials: () => false, identities: [] };

/**
 * Opens a URL for reading: a cache over HTTP, or its storage. Ignores the parameters that only Nix uses.
 *
 * @param chosenBy who chose the URL: the user, or the configuration of a cache
 * @throws NicheError `invalid-url`; `usage` for credentials of another storage
 */
export function openReader(
  text: string,
  access: CacheAccess = ownCredentials,
  chosenBy: 'user' | 'cache' = 'user',
): ObjectReader {
  const { url } = parseStoreUrl(text);
  if (isHttp(url)) {
    // A password must not cross the network in plain text.
    const login = isRemotePlainHttp(url) ? undefined : () => access.loginFor?.(url, chosenBy);
    return deniedAsMissing(openHttpReader(url, { login }));
  }
  const credentials = access.hasCredentials(url)
    ? access.credentialsFor?.(url)
    : ({ kind: 'anonymous' } as const);
  return deniedAsMissing(openBucket(url, { credentials }));
}

/**
 * Opens the public part of the cache at `url`: a substituter's URL or a storage URL.
 *
 * @throws NicheError `invalid-url`, `not-a-cache`, `malformed-config`, `newer-version`,
 *   `storage-denied`, `storage-unavailable`
 */
export async function openCacheReader(
  url: string,
  access: CacheAccess = ownCredentials,
): Promise<ReadableCache> {
  const reader = openReader(url, access);
  const config = await readConfig(reader);
  // A forged configuration must not choose who receives requests with this machine's credentials.
  const upstreamAccess = isRemotePlainHttp(url) ? noCredentials : access;
  return { config, reader, upstreams: openUpstreams(config, upstreamAccess) };
}

/**
 * Opens the upstreams of a cache. Sends no request.
 *
 * @param waitFor creates the wait for an upstream that is down. @default lookups do not wait
 * @throws NicheError `invalid-url`
 */
export function openUpstreams(
  { upstreams, storeDir }: Pick<CacheConfig, 'upstreams' | 'storeDir'>,
  access: CacheAccess = ownCredentials,
  waitFor?: (upstream: string) => OutageWait,
): Upstreams {
  const opened = upstreams.map(({ url, publicKey }) => ({
    reader: openReader(url, access, 'cache'),
    publicKey,
    waitOut: waitFor?.(url),
  }));
  return createUpstreams(opened, storeDir);
}

/**
 * Opens the roots of the cache at `url`: with this machine's own credentials where the storage accepts
 * them, else with the encrypted ones in the cache. Encrypted credentials open only the storage in the
 * same encrypted document. Opening a root sends no request to it, so a caller that does not use a root
 * needs no rights there.
 *
 * @param needs the root that this machine's own credentials are tried on. Administrators and auditors
 *   may have no rights on the staging root
 * @throws NicheError `insecure-url` over plain HTTP from another machine; `usage` when the directory of
 *   the cache is not on this machine; `no-identity`,
 *   `identity-failed`, `malformed-secrets`, `altered-secrets`, `newer-version`; the errors of
 *   {@link openCacheReader}
 */
export async function openCache(
  url: string,
  access: CacheAccess = ownCredentials,
  needs: 'staging' | 'private' = 'staging',
): Promise<OpenCache> {
  assertNotForgeable(url);
  const cache = await openCacheReader(url, access);
  const { storage, staging, private: privateUrl } = cache.config;
  const isDirectory = [storage, staging, privateUrl].some((root) => root.startsWith('file:'));
  if (isDirectory && !url.startsWith('file:')) {
    // A document from another machine must not choose which directory here is written to.
    throw new NicheError(
      'usage',
      `opening the cache: expected its directory ${quote(storage)}, got ${quote(url)}`,
      { hint: 'on the machine that has the directory, pass -u file:///…' },
    );
  }
  if (isDirectory) {
    // The directory may be mounted at another path here: the user's URL wins.
    const here = (root: string): string => (root === storage ? url : root);
    const roots = { storage: url, staging: here(staging), private: here(privateUrl) };
    return { ...cache, ...bucketsOf(roots, ({ url: root }) => access.credentialsFor?.(root)) };
  }
  return { ...cache, ...(await openRoots(cache, url, access, needs)) };
}

async function openRoots(
  { config, reader }: ReadableCache,
  named: string,
  access: CacheAccess,
  needs: 'staging' | 'private',
): Promise<CacheBuckets> {
  const roots = findDriver(named)?.adaptRoots?.(named, config) ?? config;
  const own = bucketsOf(roots, ({ url }) => access.credentialsFor?.(url));
  if (access.hasCredentials(config[needs])) {
    if (needs === 'private' || (await mayStage(own.staging))) return own;
  }
  const secret = await readSecret(reader, clientDocument);
  // The storage's SDK may still find credentials.
  if (!secret) return own;
  const opened = await openSecret(secret, clientDocument, access.identities).catch(
    (error: unknown) => {
      if (needs === 'private' && isNicheError(error, 'no-identity')) return null;
      throw error;
    },
  );
  if (!opened || (needs === 'private' && opened.value.private === undefined)) return own;
  const { value, document } = opened;
  const buckets = bucketsOf(
    // The storages of the encrypted document, not of niche.json: someone who can change that must not
    // receive the credentials.
    { ...value, private: value.private ?? roots.private },
    ({ name }) => clientCredentials(value, document)[name],
  );
  return value.private === undefined ? { ...buckets, private: own.private } : buckets;
}

function bucketsOf(
  { storage, staging, private: privateUrl }: RootUrls,
  credentialsFor: (root: {
    readonly name: RootName;
    readonly url: string;
  }) => StorageCredentials | undefined,
): CacheBuckets {
  const open = (name: RootName, url: string): Bucket =>
    openBucket(url, { credentials: credentialsFor({ name, url }) });
  return guardRoots({
    public: deniedAsMissing(open('public', storage)),
    staging: open('staging', staging),
    private: open('private', privateUrl),
  });
}

const anonymous: StorageCredentials = { kind: 'anonymous' };

/**
 * Returns the credentials in the document by root. Prefers the role where an AWS identity opened the
 * document: that identity can assume it. The role also reads the public root. Other credentials are
 * for one bucket alone with several storages, so the public root is read without any by default.
 */
function clientCredentials(
  { credentials, readCredentials, role }: ClientConfig,
  { openedBy }: OpenDocument,
): Readonly<Record<RootName, StorageCredentials | undefined>> {
  const isOfCloud = openedBy.includes('aws-kms');
  if (role !== undefined && (isOfCloud || credentials === undefined)) {
    const assumed = { kind: 's3-role', role } as const;
    return { public: readCredentials ?? assumed, staging: assumed, private: assumed };
  }
  // Without any in the document, this machine has its own.
  const forReading = readCredentials ?? (credentials && anonymous);
  return { public: forReading, staging: credentials, private: credentials };
}

/**
 * Whether the storage accepts the credentials, such as an uploader's: it may list the receipts of any
 * upload, even of a new one. Credentials of another account are refused.
 */
async function mayStage(root: Bucket): Promise<boolean> {
  try {
    await root.list(receiptPrefix(newUploadId()))[Symbol.asyncIterator]().next();
    return true;
  } catch (error) {
    if (isNicheError(error, 'storage-denied')) return false;
    throw error;
  }
}

function isHttp(url: string): boolean {
  return /^https?:/.test(url);
}
