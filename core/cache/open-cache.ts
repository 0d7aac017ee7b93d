import { NicheError } from '../errors.ts';
import type { Bucket } from '../storage/bucket.ts';
import { openHttpReader } from '../storage/http.ts';
import type { ObjectReader } from '../storage/http.ts';
import { openBucket } from '../storage/open.ts';
import { readConfig } from './config.ts';
import type { CacheConfig } from './config.ts';
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

/** Opens what `url` names for reading: HTTP, or a storage of its own. */
export function openReader(url: string): ObjectReader {
  return isHttp(url) ? openHttpReader(url) : openBucket(url);
}

/**
 * Opens the cache at `url`, a substituter's URL or a storage URL.
 *
 * @throws NicheError `invalid-url`, what {@link readConfig} throws, and what storage throws
 */
export async function openCacheReader(url: string): Promise<ReadableCache> {
  const reader = openReader(url);
  const config = await readConfig(reader);
  const upstreams = createUpstreams(
    config.upstreams.map((upstream) => ({
      reader: openReader(upstream.url),
      publicKey: upstream.publicKey,
    })),
    config.storeDir,
  );
  return { config, reader, upstreams };
}

/**
 * {@link openCacheReader}, with the storage that its configuration names.
 *
 * @throws NicheError `usage` when a configuration that came over HTTP names a directory
 */
export async function openCache(url: string): Promise<OpenCache> {
  const cache = await openCacheReader(url);
  const { config } = cache;
  if (isHttp(url) && [config.storage, config.private].some((root) => root.startsWith('file:'))) {
    // A document from elsewhere must not choose which directory of this machine is written to.
    throw new NicheError(
      'usage',
      `the cache at ${url} lies in a directory, ${config.storage}: expected that directory to be named, got a URL to read it by`,
      { hint: 'on the machine that has the directory, name it with -u file:///…' },
    );
  }
  // A directory may be mounted elsewhere on this machine: there, what the user named holds.
  const publicRoot = openBucket(isHttp(url) ? config.storage : url);
  const privateRoot = config.private === config.storage ? publicRoot : openBucket(config.private);
  return { ...cache, public: publicRoot, private: privateRoot };
}

function isHttp(url: string): boolean {
  return /^https?:/.test(url);
}
