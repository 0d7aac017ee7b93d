import assert from 'node:assert/strict';
import { formatConfig } from '../../core/cache/config.ts';
import { configKey, manifestKey } from '../../core/cache/layout.ts';
import type { BatchId } from '../../core/cache/layout.ts';
import type { SigningKms } from '../../core/kms/kms.ts';
import { parseSignature } from '../../core/nix/keys.ts';
import type { Signer } from '../../core/signing/signer.ts';
import { parseSignerSpec } from '../../core/signing/signer-spec.ts';
import { createDeployment } from '../../functions/shared/deployment.ts';
import type { Deployment } from '../../functions/shared/deployment.ts';
import type { LogRecord } from '../../functions/shared/log.ts';
import type { TriggerRoot } from '../../functions/events/trigger.ts';
import { formatJob } from '../../functions/shared/job.ts';
import type { JobQueue } from '../../functions/shared/job.ts';
import { createTestCache, testSigner } from '../support/cache/kit.ts';
import type { TestCache } from '../support/cache/kit.ts';
import { watchInvariants } from '../support/cache/watch.ts';
import type { Watch } from '../support/cache/watch.ts';
import { chainHooks } from '../support/cache/scenario.ts';
import { memoryBucket } from '../support/buckets/memory-bucket.ts';
import type { BucketHooks } from '../support/buckets/memory-bucket.ts';

/** A delivery to a function: an event of an object, a message of its own queue, or malformed. */
export type Delivery =
  | {
      readonly kind: 'object';
      readonly bucket: string;
      readonly key: string;
      readonly etag?: string | undefined;
    }
  | { readonly kind: 'message'; readonly body: object }
  | { readonly kind: 'nonsense' };

/** Whether the cloud considers it handled, or delivers it again. */
export type Verdict = 'done' | 'again';

/** One cloud's functions, in this process, as the suite drives them. */
export interface Adapter {
  readonly name: string;
  readonly root: TriggerRoot;
  /** Whether a malformed delivery is kept, until it is moved to the dead-letter queue. */
  readonly keepsNonsense: boolean;
  /** Starts a new process of the cloud. */
  start(options: AdapterOptions): AdapterProcess;
  /** Returns a line of its log in niche's own form; null for other lines, such as metrics. */
  readRecord(line: string): LogRecord | null;
}

export interface AdapterOptions {
  readonly deployment: Deployment;
  readonly write: (line: string) => void;
  /** Of each invocation, in milliseconds. */
  readonly timeLimitMs: number;
}

export interface AdapterProcess {
  publish(delivery: Delivery): Promise<Verdict>;
  sweep(): Promise<Verdict>;
}

/** The time limit of the lab's functions, in seconds. */
export const timeLimitSeconds = 60;

/** A cache in memory, with one cloud's functions in front of it. */
export interface AdapterLab {
  readonly adapter: Adapter;
  readonly cache: TestCache;
  readonly watch: Watch;
  /** Messages that functions have sent and that are not delivered yet. */
  readonly queue: object[];
  /** All records of the log. */
  readonly records: LogRecord[];
  /** Returns the event of a batch's manifest. */
  event(id: BatchId): Delivery;
  process(options?: ProcessOptions): AdapterProcess;
  /** Delivers the messages of the queue, and those that they cause, to `process`. */
  drain(process?: AdapterProcess): Promise<void>;
}

export interface ProcessOptions {
  readonly hooks?: BucketHooks;
  /** Of one invocation. @default {@link timeLimitSeconds} */
  readonly limitSeconds?: number;
  /** Whether its messages are lost. */
  readonly isMute?: boolean;
}

export async function createAdapterLab(adapter: Adapter): Promise<AdapterLab> {
  const cache = createTestCache({ config: { compression: { kind: 'none', level: 3 } } });
  const watch = watchInvariants(cache);
  const queue: object[] = [];
  const records: LogRecord[] = [];
  await cache.public.put(configKey, Buffer.from(formatConfig(cache.config)));

  const lab: AdapterLab = {
    adapter,
    cache,
    watch,
    queue,
    records,
    event: (id) => ({
      kind: 'object',
      bucket: adapter.root.bucket,
      key: `${adapter.root.prefix}${manifestKey(id)}`,
      etag: cache.stagingStore.objects.get(manifestKey(id))?.etag,
    }),
    process({ hooks = {}, limitSeconds = timeLimitSeconds, isMute = false } = {}) {
      const seen = { now: cache.now, ...chainHooks(watch, hooks) };
      const jobQueue: JobQueue = {
        send(job) {
          if (!isMute) queue.push(formatJob(job));
          return Promise.resolve();
        },
        isEmpty: () => Promise.resolve(queue.length === 0),
      };
      return adapter.start({
        timeLimitMs: limitSeconds * 1000,
        deployment: createDeployment({
          settings: {
            NICHE_PUBLIC: 'memory:///public',
            NICHE_STAGING: 'memory:///staging',
            NICHE_PRIVATE: 'memory:///private',
            NICHE_SIGNERS: [parseSignerSpec('aws-kms:alias/test?name=test-1')],
            NICHE_TIME_LIMIT_SECONDS: limitSeconds,
            NICHE_BYTES_PER_SECOND: 20_000_000,
          },
          buckets: {
            public: memoryBucket({ store: cache.publicStore, url: 'memory:///public', ...seen }),
            staging: memoryBucket({ store: cache.stagingStore, url: 'memory:///staging', ...seen }),
            private: memoryBucket({ store: cache.privateStore, url: 'memory:///private', ...seen }),
          },
          queue: jobQueue,
          version: 'niche test',
          kms: { aws: testKms(testSigner('test-1')) },
          now: cache.now,
        }),
        write(line) {
          const record = adapter.readRecord(line);
          if (record) records.push(record);
        },
      });
    },
    async drain(process = lab.process()) {
      for (let body = queue.shift(); body; body = queue.shift()) {
        const verdict = await process.publish({ kind: 'message', body });
        if (verdict === 'again') queue.push(body);
      }
    },
  };
  return lab;
}

/** Returns a KMS that signs with a key in memory. */
export function testKms(signer: Signer): SigningKms {
  return {
    service: 'a test KMS',
    maxMessageBytes: 4096,
    signPermissions: 'everything',
    async sign(_key, message) {
      const { signature, requestId } = await signer.sign(Buffer.from(message).toString());
      return { signature: parseSignature(signature).signature, requestId };
    },
    publicKey: () => assert.fail('no public key is requested'),
  };
}
