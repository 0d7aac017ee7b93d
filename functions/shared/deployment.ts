import { readConfig } from '../../core/cache/config.ts';
import type { CacheConfig } from '../../core/cache/config.ts';
import { openReader } from '../../core/cache/open.ts';
import { createPublisher } from '../../core/cache/publish/publisher.ts';
import type { Publisher } from '../../core/cache/publish/publisher.ts';
import { readSigningKey } from '../../core/cache/keys/signing-keys.ts';
import { createUpstreams } from '../../core/cache/upstreams.ts';
import type { Identity } from '../../core/secrets/recipient.ts';
import { openSigner } from '../../core/signing/open.ts';
import type { OpenSignerOptions } from '../../core/signing/open.ts';
import type { Bucket } from '../../core/storage/bucket.ts';
import { openBucket } from '../../core/storage/open.ts';
import type { DeploymentSettings } from './settings.ts';
import type { Task } from './task.ts';

/** Where a function puts what another invocation is to do. */
export interface TaskQueue {
  send(task: Task): Promise<void>;
  /** Whether nothing is waiting in it, as far as one can know. */
  isEmpty(): Promise<boolean>;
}

/** The one cache that a deployment serves. */
export interface Deployment {
  readonly public: Bucket;
  readonly private: Bucket;
  readonly queue: TaskQueue;
  readonly now: () => Date;
  /** The cache as its `niche.json` has it now, give or take a minute. */
  cache(): Promise<DeployedCache>;
}

export interface DeployedCache {
  readonly config: CacheConfig;
  readonly publisher: Publisher;
}

export interface DeploymentOptions {
  readonly settings: DeploymentSettings;
  readonly queue: TaskQueue;
  /** The release and the function, for the audit. */
  readonly version: string;
  readonly signing?: OpenSignerOptions | undefined;
  /** What decrypts `niche.signing.json`, for signers that are secret keys. @default nothing */
  readonly identities?: readonly Identity[] | undefined;
  /** Ready buckets; else they are opened by the settings. */
  readonly buckets?: { readonly public: Bucket; readonly private: Bucket } | undefined;
  readonly now?: (() => Date) | undefined;
}

/** How long `niche.json` is believed before it is read again, in milliseconds. */
const configMaxAgeMs = 60_000;

/** Nothing is opened or asked for before it is used: what an invocation does not need costs nothing. */
export function createDeployment(options: DeploymentOptions): Deployment {
  const { settings, queue, version, now = () => new Date() } = options;
  const buckets = options.buckets ?? {
    public: openBucket(settings.NICHE_PUBLIC),
    private: openBucket(settings.NICHE_PRIVATE),
  };
  let current: { readonly cache: Promise<DeployedCache>; readonly readAt: number } | undefined;

  async function open(): Promise<DeployedCache> {
    const config = await readConfig(buckets.public);
    const upstreams = createUpstreams(
      config.upstreams.map(({ url, publicKey }) => ({ reader: openReader(url), publicKey })),
      config.storeDir,
    );
    const signers = settings.NICHE_SIGNERS.map((spec) =>
      openSigner(spec, config.publicKeys, {
        secretKey: (name) => readSigningKey(buckets.private, options.identities ?? [], name),
        ...options.signing,
      }),
    );
    const publisher = createPublisher({
      ...buckets,
      config,
      signers,
      upstreams,
      version,
      wake: (waiting) => queue.send({ kind: 'resume', waiting }),
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
      // What failed is tried again by the next who asks.
      cache.catch(() => {
        if (current?.cache === cache) current = undefined;
      });
      return cache;
    },
  };
}
