import type { Signer } from '../../signing/signer.ts';
import type { CacheConfig } from '../config.ts';
import type { CacheBuckets, WaitingMarker } from '../layout.ts';
import { createNarStore } from '../nar/store.ts';
import { createRecentPaths } from '../presence.ts';
import type { Upstreams } from '../upstreams.ts';
import { openPublishContext } from './context.ts';
import type { PublishContext } from './context.ts';
import { createPendingRealisations } from './pending-realisations.ts';
import { createPendingPaths } from './pending.ts';
import type { PendingPaths } from './pending.ts';
import { createBatchPublisher } from './publish-batch.ts';
import type { PublishBatch } from './publish-batch.ts';
import { createPathPublisher } from './publish-paths.ts';
import { createWaitingPublisher } from './publish-waiting.ts';
import type { WaitingPublisher } from './publish-waiting.ts';
import { createRealisationPublisher } from './realisations.ts';
import { createReporter } from './report.ts';
import { createNarInfoSigner } from './sign-narinfo.ts';
import { maxBytesWithin } from './time-budget.ts';
import { createDependentWaker } from './wake-dependents.ts';

export interface PublisherOptions extends CacheBuckets {
  readonly config: CacheConfig;
  readonly signers: readonly Signer[];
  readonly upstreams: Upstreams;
  /** Schedules {@link Publisher.resumePath} for a path whose reference was published. */
  readonly wake: (waiting: WaitingMarker) => Promise<void>;
  /**
   * Schedules `withdrawRefused` for a path that was blocked while it was published. A publisher
   * deletes no public object.
   */
  readonly withdraw: (storeHash: string) => Promise<void>;
  /** The niche release, for the audit log. */
  readonly version: string;
  /** The longest that one call of `publishBatch` may take, in milliseconds. @default 15 minutes */
  readonly timeLimitMs?: number;
  /** The expected publishing speed, in NAR bytes a second. @default unbounded */
  readonly bytesPerSecond?: number;
  /** zstd frames compressed at once. @default 2 */
  readonly parallelism?: number;
  readonly now?: () => Date;
}

/**
 * Publishes what clients stage. Every method can be called repeatedly for the same thing, also
 * concurrently and after a crash at any point. The methods throw the errors of storage, upstreams
 * and signers; nothing is lost then, and a later call continues.
 */
export interface Publisher extends WaitingPublisher {
  /**
   * Publishes a batch. Does nothing when its manifest is gone, as the batch is handled then.
   *
   * @returns the results of the paths that this call handled; a large batch takes several calls
   * @throws NicheError `out-of-time` when the time left does not suffice for the rest of its paths
   */
  readonly publishBatch: PublishBatch;
  readonly pending: PendingPaths;
  readonly timeLimitMs: number;
}

export const defaultTimeLimitMs = 15 * 60 * 1000;

export function createPublisher(options: PublisherOptions): Publisher {
  const { config, timeLimitMs = defaultTimeLimitMs } = options;
  const { bytesPerSecond = Infinity, parallelism = 2, now = () => new Date() } = options;
  const pending = createPendingPaths(options.private);
  const seen = createRecentPaths(now);
  const nars = createNarStore({ bucket: options.public, config, parallelism });
  const narInfoSigner = createNarInfoSigner({ ...options, bucket: options.private, now });
  const maxNarBytes = maxBytesWithin(timeLimitMs, bytesPerSecond);
  const paths = createPathPublisher({ ...options, nars, narInfoSigner, pending, now, maxNarBytes });
  const pendingRealisations = createPendingRealisations(options.private, pending, config.storeDir);
  const realisations = createRealisationPublisher({ ...options, pendingRealisations, now });
  const reporter = createReporter(options.staging, now);
  const openContext = (): Promise<PublishContext> => openPublishContext({ ...options, seen });
  const wakeDependents = createDependentWaker({ pending, wake: options.wake });
  const shared = { paths, realisations, reporter, wakeDependents, openContext };
  return {
    pending,
    timeLimitMs,
    publishBatch: createBatchPublisher({ ...options, ...shared, timeLimitMs, bytesPerSecond, now }),
    ...createWaitingPublisher({ pending, pendingRealisations, ...shared }),
  };
}
