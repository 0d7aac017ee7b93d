import { NicheError, isNicheError, quote } from '../errors.ts';
import type { OpenDocument } from '../secrets/document.ts';
import type { Identity } from '../secrets/recipient.ts';
import type { Bucket, ObjectReader } from '../storage/bucket.ts';
import type { StorageCredentials } from '../storage/credentials.ts';
import { openHttpReader } from '../storage/http/reader.ts';
import { findDriver, openBucket } from '../storage/open/open-bucket.ts';
import { isRemotePlainHttp } from '../util/loopback.ts';
import { readConfig } from './config.ts';
import type { CacheConfig } from './config.ts';
import { deniedAsMissing } from './denied-as-missing.ts';
import { receiptPrefix } from './layout.ts';
import { assertNotForgeable } from './plain-http.ts';
import { openSecret, clientDocument, readSecret } from './secret-documents.ts';
import type { ClientConfig } from './secret-documents.ts';
import { newUploadId } from './upload-id.ts';
import { createUpstreams } from './upstreams.ts';
import type { Upstreams } from './upstreams.ts';

/** The public part of a cache. */
export interface ReadableCache {
  readonly config: CacheConfig;
  /** Reads its public root: over HTTP or from the storage, as the user's URL specifies. */
  readonly reader: ObjectReader;
  readonly upstreams: Upstreams;
}

/** A cache with both of its roots. */
export interface OpenCache extends ReadableCache {
  readonly public: Bucket;
  readonly private: Bucket;
}

/** The credentials and identities of this machine. */
export interface CacheAccess {
  /**
   * Whether this machine seems to have credentials for a storage, such as an AWS profile. They are
   * tried first.
   */
  readonly hasCredentials: (storageUrl: string) => boolean;
  /** Returns credentials that the storage's SDK would not find. @default none */
  readonly credentialsFor?: (storageUrl: string) => StorageCredentials | undefined;
  /** Decrypt `niche.client.json` where this machine has no credentials, or only refused ones. */
  readonly identities: readonly Identity[];
}

/** A machine that relies on its own credentials. */
const ownCredentials: CacheAccess = { hasCredentials: () => true, identities: [] };
const noCredentials: CacheAccess = { hasCredentials: () => false, identities: [] };

/**
 * Opens `url` for reading: a cache over HTTP, or its storage.
 *
 * @throws NicheError `invalid-url`; `usage` for credentials of another storage
 */
export function openReader(url: string, access: CacheAccess = ownCredentials): ObjectReader {
  if (isHttp(url)) return deniedAsMissing(openHttpReader(url));
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
  const upstreams = createUpstreams(
    config.upstreams.map((upstream) => ({
      reader: openReader(upstream.url, upstreamAccess),
      publicKey: upstream.publicKey,
    })),
    config.storeDir,
  );
  return { config, reader, upstreams };
}

/**
 * Opens both roots of the cache at `url`: with this machine's own credentials where the storage
 * accepts them, else with the encrypted ones in the cache. Encrypted credentials open only the storage
 * in the same encrypted document.
 *
 * @throws NicheError `insecure-url` over plain HTTP from another machine; `usage` when a configuration read over HTTP specifies a directory; `no-identity`,
 *   `identity-failed`, `malformed-secrets`, `altered-secrets`, `newer-version`; the errors of
 *   {@link openCacheReader}
 */
export async function openCache(
  url: string,
  access: CacheAccess = ownCredentials,
): Promise<OpenCache> {
  assertNotForgeable(url);
  const cache = await openCacheReader(url, access);
  const { config } = cache;
  const isDirectory = [config.storage, config.private].some((root) => root.startsWith('file:'));
  if (isHttp(url) && isDirectory) {
    // A document from another machine must not choose which directory here is written to.
    throw new NicheError(
      'usage',
      `opening the cache at ${url}: expected its directory ${quote(config.storage)}, got its URL for readers`,
      { hint: 'on the machine that has the directory, pass -u file:///…' },
    );
  }
  if (isDirectory) {
    // The directory may be mounted at another path here: the user's URL wins.
    const publicRoot = deniedAsMissing(
      openBucket(url, { credentials: access.credentialsFor?.(url) }),
    );
    const isOne = config.private === config.storage;
    return {
      ...cache,
      public: publicRoot,
      private: isOne
        ? publicRoot
        : openBucket(config.private, { credentials: access.credentialsFor?.(config.private) }),
    };
  }
  return { ...cache, ...(await openRoots(cache, url, access)) };
}

type CacheBuckets = Pick<OpenCache, 'public' | 'private'>;

async function openRoots(
  { config, reader }: ReadableCache,
  named: string,
  access: CacheAccess,
): Promise<CacheBuckets> {
  const roots = findDriver(named)?.adaptRoots?.(named, config) ?? config;
  const own = bucketsOf(roots, (root) => access.credentialsFor?.(root));
  const mayTryOwn = access.hasCredentials(config.private);
  if (mayTryOwn && (await mayStage(own.private))) return own;
  const secret = await readSecret(reader, clientDocument);
  // The storage's SDK may still find credentials.
  if (!secret) return own;
  const { value, document } = await openSecret(secret, clientDocument, access.identities);
  // The storages of the encrypted document, not of niche.json: someone who can change that must not
  // receive the credentials.
  const credentials = clientCredentials(value, document);
  return bucketsOf(value, (root) => (mayOpen(credentials, root, value) ? credentials : anonymous));
}

function bucketsOf(
  { storage, private: root }: Pick<CacheConfig, 'storage' | 'private'>,
  credentialsFor: (root: string) => StorageCredentials | undefined,
): CacheBuckets {
  const publicRoot = deniedAsMissing(openBucket(storage, { credentials: credentialsFor(storage) }));
  return {
    public: publicRoot,
    private:
      root === storage ? publicRoot : openBucket(root, { credentials: credentialsFor(root) }),
  };
}

const anonymous: StorageCredentials = { kind: 'anonymous' };

/** An uploader's SAS token is for the private root only: Azure refuses it for any other container. */
function mayOpen(
  credentials: StorageCredentials | undefined,
  root: string,
  { private: privateRoot }: Pick<CacheConfig, 'private'>,
): boolean {
  const isSasToken = credentials?.kind === 'azure' && credentials.sas !== undefined;
  return !isSasToken || root === privateRoot;
}

/** Prefers the role where an AWS identity opened the document: that identity can assume it. */
function clientCredentials(
  { credentials, role }: ClientConfig,
  { openedBy }: OpenDocument,
): StorageCredentials | undefined {
  const isOfCloud = openedBy.includes('aws-kms');
  if (role !== undefined && (isOfCloud || credentials === undefined)) {
    return { kind: 's3-role', role };
  }
  return credentials;
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
