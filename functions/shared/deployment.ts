import { readConfig } from '../../core/cache/config.ts';
import type { CacheConfig } from '../../core/cache/config.ts';
import type { CacheBuckets } from '../../core/cache/layout.ts';
import { openUpstreams } from '../../core/cache/open.ts';
import { createPublisher } from '../../core/cache/publish/publisher.ts';
import type { Publisher } from '../../core/cache/publish/publisher.ts';
import { guardRoots } from '../../core/cache/roots.ts';
import type { Identity } from '../../core/secrets/recipient.ts';
import { openBucket } from '../../core/storage/open/open-bucket.ts';
import { netrcLogins } from '../../core/util/netrc.ts';
import type { DeploymentSettings } from './settings.ts';
import { openSigner } from './signers.ts';
import type { KmsClients } from './signers.ts';
import type { JobQueue } from './job.ts';

/** The one cache of a deployment. */
export interface Deployment extends CacheBuckets {
  readonly queue: JobQueue;
  readonly now: () => Date;
  /**
   * Opens the cache, with a `niche.json` that is at most a minute old.
   *
   * @throws NicheError with a storage code, `malformed-config`, `newer-version`, `wrong-key`
   */
  cache(): Promise<DeployedCache>;
}

export interface DeployedCache {
  readonly config: CacheConfig;
  readonly publisher: Publisher;
}

export interface DeploymentOptions {
  readonly settings: DeploymentSettings;
  readonly queue: JobQueue;
  /** The release and the function, for the audit log. */
  readonly version: string;
  /** @default clients with the settings of the environment */
  readonly kms?: KmsClients | undefined;
  /** Decrypt `niche.signing.json`, for signers that are secret keys. @default none */
  readonly identities?: readonly Identity[] | undefined;
  /** @default the buckets of the settings */
  readonly buckets?: CacheBuckets | undefined;
  readonly now?: (() => Date) | undefined;
}

/** `niche.json` is read again after this time, in milliseconds. */
const configMaxAgeMs = 60_000;

/** Opens each part on first use, so that an invocation only pays for what it needs. */
export function createDeployment(options: DeploymentOptions): Deployment {
  const { settings, queue, version, now = () => new Date() } = options;
  const buckets = guardRoots(
    options.buckets ?? {
      public: openBucket(settings.NICHE_PUBLIC),
      staging: openBucket(settings.NICHE_STAGING),
      private: openBucket(settings.NICHE_PRIVATE),
    },
  );
  let current: { readonly cache: Promise<DeployedCache>; readonly readAt: number } | undefined;

  async function open(): Promise<DeployedCache> {
    const config = await readConfig(buckets.public);
    const { NICHE_NETRC: netrc } = settings;
    const upstreams = openUpstreams(config, {
      hasCredentials: () => true,
      ...(netrc === undefined ? {} : { loginFor: netrcLogins(() => Promise.resolve(netrc)) }),
      identities: [],
    });
    const signers = settings.NICHE_SIGNERS.map((spec) =>
      openSigner(spec, {
        publicKeys: config.publicKeys,
        privateRoot: buckets.private,
        identities: options.identities ?? [],
        kms: options.kms ?? {},
      }),
    );
    const publisher = createPublisher({
      ...buckets,
      config,
      signers,
      upstreams,
      version,
      wake: (waiting) => queue.send({ kind: 'resume', waiting }),
      withdraw: (storeHash) => queue.send({ kind: 'withdraw', storeHash }),
      timeLimitMs: settings.NICHE_TIME_LIMIT_SECONDS * 1000,
      bytesPerSecond: settings.NICHE_BYTES_PER_SECOND,
      now,
    });
    return { config, publisher };
  }

  return {
    ...buckets,
    queue,
    now,
    cache() {
      if (current && performance.now() - current.readAt < configMaxAgeMs) return current.cache;
      const cache = open();
      current = { cache, readAt: performance.now() };
      // The next call must try again after a failure.
      cache.catch(() => {
        if (current?.cache === cache) current = undefined;
      });
      return cache;
    },
  };
}
