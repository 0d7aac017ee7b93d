import { randomBytes } from 'node:crypto';

import { mapConcurrent } from '../../util/concurrency.ts';
import { isNicheError, isRejection } from '../../errors.ts';
import type { NicheError, RejectionCode } from '../../errors.ts';
import { maxAttempts } from '../../limits.ts';
import { storeHash } from '../../nix/store-path.ts';
import type { PathInfo } from '../../nix/path-info.ts';
import type { Signer } from '../../signing/signer.ts';
import type { Bucket } from '../../storage/bucket.ts';
import { createCrashGuard } from './crash-guard.ts';
import type { GuardedBatch } from './crash-guard.ts';
import type { Origin } from '../audit.ts';
import { writeReceipts } from '../receipts/batch-receipts.ts';
import { openBlocklist } from '../blocklist.ts';
import type { CacheConfig } from '../config.ts';
import type { StagedPath } from './ingest.ts';
import { manifestKey, stagedNarsKey } from '../layout.ts';
import type { BatchId, WaitingMarker } from '../layout.ts';
import { listStatuses } from '../receipts/listed-receipts.ts';
import { readManifest } from '../manifest.ts';
import type { Manifest } from '../manifest.ts';
import { createNarStore } from '../nar/store.ts';
import { createNarInfoSigner } from './sign-narinfo.ts';
import { createPendingPaths } from './pending.ts';
import type { PendingPaths } from './pending.ts';
import { createPresence, createRecentPaths } from '../presence.ts';
import { createPathPublisher } from './publish-paths.ts';
import type { Concluded } from './publish-paths.ts';
import { rejectedOutcome, writeReceipt } from '../receipts/receipts.ts';
import type { Outcome } from '../receipts/receipts.ts';
import type { PublishContext } from './conflicts.ts';
import { stagedLogs } from './staged-logs.ts';
import { openStagedNars } from './staged-nars.ts';
import { createTimeBudget, maxBytesWithin } from './time-budget.ts';
import type { TimeBudget } from './time-budget.ts';
import { createInFlightBatches } from './in-flight.ts';
import type { InFlightBatch } from './in-flight.ts';
import type { Upstreams } from '../upstreams.ts';

export interface PublisherOptions {
  readonly public: Bucket;
  readonly private: Bucket;
  readonly config: CacheConfig;
  readonly signers: readonly Signer[];
  readonly upstreams: Upstreams;
  /** Hands on a path whose reference has been published, for {@link Publisher.resumePath}. */
  readonly wake: (waiting: WaitingMarker) => Promise<void>;
  /** The release, for the audit. */
  readonly version: string;
  /** The longest that one call of `publish` may take, in milliseconds. @default 15 minutes */
  readonly timeLimitMs?: number;
  /** NAR bytes a second that this publisher is counted on to publish. @default unbounded */
  readonly bytesPerSecond?: number;
  /** zstd frames compressed at once. @default 2 */
  readonly parallelism?: number;
  readonly now?: () => Date;
}

/** What became of one path in one call. */
export interface PublishResult {
  /** Null for a batch that was refused whole. */
  readonly path: string | null;
  /** In bytes; null for a batch that was refused whole. */
  readonly narSize: number | null;
  readonly upload: string;
  readonly outcome: Outcome;
}

/**
 * Publishes what clients stage. Every method may be called any number of times for the same thing,
 * also at once and after a crash at any point. They throw what storage, an upstream or a signer
 * throws; then nothing is lost, and a later call goes on.
 */
export interface Publisher {
  /**
   * Publishes a batch; nothing happens when its manifest is gone, for then it is handled. Of a batch
   * that takes several calls, each tells only of the paths that it handled.
   *
   * @throws NicheError `out-of-time` when the time left allows no more of its paths
   */
  publishBatch(id: BatchId, call?: PublishCall): Promise<PublishResult[]>;
  /** Goes on with a path whose reference has come; null when it no longer waits. */
  resumePath(waiting: WaitingMarker): Promise<PublishResult | null>;
  /** Gives up on a path that has waited too long. */
  expirePath(waiting: WaitingMarker): Promise<PublishResult | null>;
  readonly pending: PendingPaths;
  readonly timeLimitMs: number;
}

/** What is known of one call of {@link Publisher.publishBatch}. */
export interface PublishCall {
  /** How the batch came to be known, for the audit. */
  readonly origin?: Origin | undefined;
  /** Until the process may be ended, in milliseconds. @default the publisher's time limit, from now */
  readonly timeLeftMs?: (() => number) | undefined;
}

const receiptsAtOnce = 64;

export const defaultTimeLimitMs = 15 * 60 * 1000;

export function createPublisher(options: PublisherOptions): Publisher {
  const { config, upstreams, now = () => new Date(), timeLimitMs = defaultTimeLimitMs } = options;
  const { bytesPerSecond = Infinity } = options;
  const { storeDir } = config;
  const pending = createPendingPaths(options.private);
  const seen = createRecentPaths(now);
  const inFlight = createInFlightBatches();
  const crashGuard = createCrashGuard(options.private, {
    timeLimitMs,
    now,
    newId: () => randomBytes(8).toString('hex'),
  });
  const nars = createNarStore({
    bucket: options.public,
    config,
    parallelism: options.parallelism ?? 2,
  });
  const notary = createNarInfoSigner({ ...options, bucket: options.private, now });
  const maxNarBytes = maxBytesWithin(timeLimitMs, bytesPerSecond);
  const paths = createPathPublisher({ ...options, nars, notary, pending, now, maxNarBytes });

  async function begin(): Promise<PublishContext> {
    const blocked = await openBlocklist(options.private);
    const presence = createPresence({ cache: options.public, upstreams, storeDir, blocked, seen });
    return { presence, blocked };
  }

  async function report(upload: string, info: PathInfo, outcome: Outcome): Promise<PublishResult> {
    const { path, narSize } = info;
    const receipt = { path, ...outcome, at: now().toISOString() };
    await writeReceipt(options.private, upload, storeHash(path), receipt);
    return { path, narSize, upload, outcome };
  }

  /** Reports on paths of a batch that were concluded together; returns once every receipt is written. */
  async function reportAll(
    { upload, batch }: BatchId,
    told: readonly { readonly info: PathInfo; readonly outcome: Outcome }[],
  ): Promise<PublishResult[]> {
    const outcomes = told.map(({ info: { path }, outcome }) => ({ path, ...outcome }));
    await writeReceipts(options.private, { upload, batch }, outcomes, now().toISOString());
    return told.map(({ info: { path, narSize }, outcome }) => ({ path, narSize, upload, outcome }));
  }

  async function refuseBatch(
    id: BatchId,
    error: NicheError & { code: RejectionCode },
  ): Promise<PublishResult> {
    const outcome = rejectedOutcome(error);
    const at = now().toISOString();
    await writeReceipt(options.private, id.upload, String(id.batch), { ...outcome, at });
    await deleteBatch(id, []);
    return { path: null, narSize: null, upload: id.upload, outcome };
  }

  /** The manifest first: without it, what is left is only waste, and a repeated event ends at once. */
  async function deleteBatch(id: BatchId, logs: readonly string[]): Promise<void> {
    await options.private.delete([manifestKey(id)]);
    const nars = [stagedNarsKey(id, 'none'), stagedNarsKey(id, 'zstd')];
    await options.private.delete([...nars, ...logs]);
  }

  async function isStaged(id: BatchId): Promise<boolean> {
    return (await options.private.head(manifestKey(id))) !== null;
  }

  async function publishBatch(
    id: BatchId,
    manifest: Manifest,
    { origin, timeLeftMs }: PublishCall,
  ): Promise<PublishResult[]> {
    const budget = createTimeBudget({ timeLimitMs, bytesPerSecond, timeLeftMs });
    const claimed = manifest.paths.map(({ path }) => path);
    const publish = async (attempt: GuardedBatch, inFlightBatch: InFlightBatch) => {
      const openNar = openStagedNars(options.private, id, manifest);
      const logs = stagedLogs(options.private, id.upload, storeDir);
      const batch = manifest.paths.map((claim, index): StagedPath => ({
        claim,
        upload: id.upload,
        origin: origin ?? null,
        openNar: () => openNar(index),
        readLog: () => logs.read(claim),
      }));

      /** What became of them, but for those whose NAR was taken away meanwhile. */
      async function publishPaths(group: readonly StagedPath[]): Promise<PublishResult[]> {
        const concluded = await concludeAll(run, attempt, group);
        // Whoever handled the batch at the same time has taken its NARs away, the manifest first.
        const lacksNar = concluded.some(({ outcome }) => outcome.code === 'missing-nar');
        const isGone = lacksNar && !(await isStaged(id));
        const told = group.flatMap(({ claim: info }, index) => {
          const each = concluded[index];
          return !each || (isGone && each.outcome.code === 'missing-nar')
            ? []
            : [{ info, ...each }];
        });
        const published = await reportAll(id, told);
        await mapConcurrent(told, receiptsAtOnce, ({ unpark }) => unpark());
        return published;
      }

      const due = await dueNow(budget, id, batch);
      const [begun, groups] = await Promise.all([
        begin(),
        // Where something died each path is a group: what dies takes all that runs with it.
        attempt.isolatesPaths ? due.map((staged) => [staged]) : logs.inGroups(due),
      ]);
      const run = { ...begun, inFlight: inFlightBatch };
      const published: PublishResult[] = [];
      let count = 0;
      for (const group of groups) {
        const { affordable, stopped } = within(budget, group);
        if (affordable.length > 0) published.push(...(await publishPaths(affordable)));
        count += affordable.length;
        if (stopped) throw stopped;
      }
      if (published.length < count) return published;
      await deleteBatch(id, logs.used());
      await attempt.clearMarkers();
      return published;
    };
    return crashGuard.guardBatch(id, (attempt) =>
      inFlight.runBatch(claimed, (inFlightBatch) => publish(attempt, inFlightBatch)),
    );
  }

  /**
   * Of a batch that is too much for one call, what no call has reported on yet. Else each call would
   * begin with what is done, and one path that needs nearly the whole limit would never have its turn.
   */
  async function dueNow(
    budget: TimeBudget,
    { upload }: BatchId,
    batch: readonly StagedPath[],
  ): Promise<readonly StagedPath[]> {
    const bytes = batch.reduce((sum, { claim }) => sum + claim.narSize, 0);
    if (budget.suffices(bytes)) return batch;
    const reported = await listStatuses(options.private, upload);
    return batch.filter(({ claim }) => !reported.has(storeHash(claim.path)));
  }

  async function concludeAll(
    run: PublishContext,
    attempt: GuardedBatch,
    group: readonly StagedPath[],
  ): Promise<Concluded[]> {
    const [first] = group;
    if (!attempt.isolatesPaths || !first) return paths.publish(run, group);
    const { path } = first.claim;
    const concluded = await attempt.guardPath(storeHash(path), () => paths.publish(run, group));
    return concluded ?? [{ outcome: tooManyDeaths(path), unpark: () => Promise.resolve() }];
  }

  return {
    pending,
    timeLimitMs,

    async publishBatch(id, call = {}) {
      let manifest: Manifest | null;
      try {
        manifest = await readManifest(options.private, id, storeDir);
      } catch (error) {
        if (isRejection(error)) return [await refuseBatch(id, error)];
        throw error;
      }
      return manifest ? publishBatch(id, manifest, call) : [];
    },

    async resumePath(waiting) {
      const record = await pending.readRecord(waiting.storeHash, waiting.upload);
      if (!record) {
        await pending.unmarkWaiting(waiting);
        return null;
      }
      const run = await begin();
      const { outcome, unpark } = await paths.resume(run, record, waiting.reference);
      const published = await report(waiting.upload, record.info, outcome);
      await unpark();
      return published;
    },

    async expirePath(waiting) {
      const record = await pending.readRecord(waiting.storeHash, waiting.upload);
      if (!record) return null;
      const { references, path } = record.info;
      const { presence } = await begin();
      const missing = await presence.findMissing(
        references.filter((reference) => reference !== path),
      );
      const published = await report(waiting.upload, record.info, {
        status: 'rejected',
        code: 'missing-references',
        message: `${path} has waited since ${record.since} for references that never came`,
        missing,
      });
      await pending.deleteRecord(waiting.storeHash, waiting.upload);
      await pending.unmarkWaiting(waiting);
      return published;
    },
  };
}

/** The first paths of the group, as many as the time left suffices for; and why no more. */
function within(
  budget: TimeBudget,
  group: readonly StagedPath[],
): { affordable: readonly StagedPath[]; stopped?: NicheError } {
  let bytes = 0;
  for (const [index, { claim }] of group.entries()) {
    bytes += claim.narSize;
    try {
      budget.begin({ ...claim, narSize: bytes });
    } catch (error) {
      if (!isNicheError(error, 'out-of-time')) throw error;
      return { affordable: group.slice(0, index), stopped: error };
    }
  }
  return { affordable: group };
}

function tooManyDeaths(path: string): Outcome {
  return {
    status: 'rejected',
    code: 'failed',
    message: `the publisher died ${maxAttempts} times at ${path} and does not try again`,
  };
}
