import { NicheError, isNicheError } from '../errors.ts';
import type { OpenDocument } from '../secrets/document.ts';
import type { Identity } from '../secrets/recipient.ts';
import type { Bucket } from '../storage/bucket.ts';
import type { StorageCredentials } from '../storage/credentials.ts';
import { openHttpReader } from '../storage/http/reader.ts';
import type { ObjectReader } from '../storage/bucket.ts';
import { findDriver, openBucket } from '../storage/open/open-bucket.ts';
import { readConfig } from './config.ts';
import type { CacheConfig } from './config.ts';
import { deniedAsMissing } from './denied-as-missing.ts';
import { receiptPrefix } from './layout.ts';
import { openSecret, privateDocument, readSecret } from './secret-documents.ts';
import type { PrivateConfig } from './secret-documents.ts';
import { newUploadId } from './upload-id.ts';
import { createUpstreams } from './upstreams.ts';
import type { Upstreams } from './upstreams.ts';

/** A cache as everyone may read it. */
export interface ReadableCache {
  readonly config: CacheConfig;
  /** Its public root, as it was named: over HTTP or as the storage itself. */
  readonly reader: ObjectReader;
  readonly upstreams: Upstreams;
}

/** A cache with both of its roots. */
export interface OpenCache extends ReadableCache {
  readonly public: Bucket;
  readonly private: Bucket;
}

/** What this machine has that may open a storage. */
export interface CacheAccess {
  /**
   * Whether this machine seems to have credentials of its own for a storage, such as an AWS profile.
   * They are tried first.
   */
  readonly hasCredentials: (storageUrl: string) => boolean;
  /** What was found for a storage whose SDK would not find it by itself. @default nothing */
  readonly credentialsFor?: (storageUrl: string) => StorageCredentials | undefined;
  /** What decrypts `niche.private.json` where it has none, or none that will do. */
  readonly identities: readonly Identity[];
}

/** A machine whose own credentials have to do. */
const ownCredentials: CacheAccess = { hasCredentials: () => true, identities: [] };

/** Opens what `url` names for reading: HTTP, or a storage of its own. */
export function openReader(url: string, access: CacheAccess = ownCredentials): ObjectReader {
  if (isHttp(url)) return deniedAsMissing(openHttpReader(url));
  const credentials = access.hasCredentials(url)
    ? access.credentialsFor?.(url)
    : ({ kind: 'anonymous' } as const);
  return deniedAsMissing(openBucket(url, { credentials }));
}

/**
 * Opens the cache at `url`, a substituter's URL or a storage URL.
 *
 * @throws NicheError `invalid-url`, what {@link readConfig} throws, and what storage throws
 */
export async function openCacheReader(
  url: string,
  access: CacheAccess = ownCredentials,
): Promise<ReadableCache> {
  const reader = openReader(url, access);
  const config = await readConfig(reader);
  const upstreams = createUpstreams(
    config.upstreams.map((upstream) => ({
      reader: openReader(upstream.url, access),
      publicKey: upstream.publicKey,
    })),
    config.storeDir,
  );
  return { config, reader, upstreams };
}

/**
 * {@link openCacheReader}, with the storage that its configuration names: opened with this machine's
 * own credentials where they will do, else with those that the cache itself has, encrypted. What was
 * encrypted together stays together: these open no other storage than the one that they came with.
 *
 * @throws NicheError `usage` when a configuration that came over HTTP names a directory; what
 *   {@link openSecret} throws, as `no-identity`, and `storage-denied` when nothing opens the storage
 */
export async function openCache(
  url: string,
  access: CacheAccess = ownCredentials,
): Promise<OpenCache> {
  const cache = await openCacheReader(url, access);
  const { config } = cache;
  const isDirectory = [config.storage, config.private].some((root) => root.startsWith('file:'));
  if (isHttp(url) && isDirectory) {
    // A document from elsewhere must not choose which directory of this machine is written to.
    throw new NicheError(
      'usage',
      `the cache at ${url} lies in a directory, ${config.storage}: expected that directory to be named, got a URL to read it by`,
      { hint: 'on the machine that has the directory, name it with -u file:///…' },
    );
  }
  if (isDirectory) {
    // A directory may be mounted elsewhere on this machine: there, what the user named holds.
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
  const roots = findDriver(named)?.reachRoots?.(named, config) ?? config;
  const own = bucketsOf(roots, (root) => access.credentialsFor?.(root));
  const mayTryOwn = access.hasCredentials(config.private);
  if (mayTryOwn && (await mayStage(own.private))) return own;
  const secret = await readSecret(reader, privateDocument);
  // The storage's SDK may still find what this machine does not seem to have.
  if (!secret) return own;
  const { value, document } = await openSecret(secret, privateDocument, access.identities);
  // The storages that the document names, whatever niche.json says: whoever can change that one
  // must not have the credentials sent elsewhere.
  const credentials = clientCredentials(value, document);
  return bucketsOf(value, (root) => (opens(credentials, root, value) ? credentials : anonymous));
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

/** A client's signature is for the private root alone: Azure refuses it at any other container. */
function opens(
  credentials: StorageCredentials | undefined,
  root: string,
  { private: privateRoot }: Pick<CacheConfig, 'private'>,
): boolean {
  const isSignature = credentials?.kind === 'azure' && credentials.sas !== undefined;
  return !isSignature || root === privateRoot;
}

/** A role where an identity of that cloud opened the document: it can assume it by itself. */
function clientCredentials(
  { credentials, role }: PrivateConfig,
  { openedBy }: OpenDocument,
): StorageCredentials | undefined {
  const isOfCloud = openedBy.includes('aws-kms');
  if (role !== undefined && (isOfCloud || credentials === undefined)) {
    return { kind: 's3-role', role };
  }
  return credentials;
}

/**
 * Whether a client's credentials are accepted: it may list the receipts of an upload, also of one
 * that there is not. Another cloud account's would be refused.
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
