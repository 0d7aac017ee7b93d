import { toError } from '../../errors.ts';
import type { ObjectInfo } from '../../storage/bucket.ts';
import { parseManifestKey, stagingPrefix } from '../layout.ts';
import type { BatchId, CacheBuckets } from '../layout.ts';
import { sweepBlocked } from '../withdraw/sweep-blocked.ts';
import { startAnywhere, takeTurns } from './fair-turns.ts';
import { deleteLeftovers } from './leftovers.ts';
import type { Publisher } from './publisher.ts';
import type { PublishResult } from './report.ts';
import { sweepWaiting } from './sweep-waiting.ts';

const dayMs = 24 * 60 * 60 * 1000;

export interface SweepOptions extends CacheBuckets {
  readonly publisher: Publisher;
  /** How long a path waits for its references, in days. */
  readonly waitingDays: number;
  /** Staged batches older than this are published, in milliseconds. */
  readonly staleMs: number;
  /** When it is aborted, the sweep starts no more batches and paths. */
  readonly signal?: AbortSignal;
  readonly now?: () => Date;
  /** Whether it deletes what is blocked; else a sweep of another identity must. @default true */
  readonly withdraws?: boolean | undefined;
  /** Returns a number from 0 to below 1. @default Math.random */
  readonly random?: () => number;
}

export interface SweepReport {
  readonly published: readonly PublishResult[];
  /** The store hashes of blocked paths that were visible. */
  readonly withdrawn: readonly string[];
  /** The number of deleted objects, except those of withdrawn paths. */
  readonly deleted: number;
}

/**
 * Repairs what events missed and deletes what is no longer needed: withdraws blocked paths that are
 * visible, publishes stale staged batches, resumes paths whose references are available, rejects paths
 * that have waited too long, and deletes leftovers. Uploads take turns, so that none of them uses up
 * the time of a sweep.
 *
 * @throws the first failure, after all other work is done
 */
export async function sweep(options: SweepOptions): Promise<SweepReport> {
  const { random = Math.random } = options;
  const now = (options.now ?? (() => new Date()))().getTime();
  const olderThan =
    (ms: number): IsOld =>
    ({ modified }) =>
      modified.getTime() <= now - ms;
  const failures: Error[] = [];
  const tryTask: TryTask = async (work) => {
    if (options.signal?.aborted === true) return null;
    try {
      return await work();
    } catch (error) {
      failures.push(toError(error));
      return null;
    }
  };
  // First: a withdrawal must not wait for slow batches.
  const { withdraws = true } = options;
  const withdrawn = withdraws ? await tryTask(() => sweepBlocked(options, now)) : null;
  const published = [
    ...(await sweepStaging(options, tryTask, olderThan(options.staleMs), random)),
    ...(await sweepWaiting({
      ...options,
      hasExpired: olderThan(options.waitingDays * dayMs),
      tryTask,
      random,
    })),
  ];
  const deleted = await deleteLeftovers(options, now);
  const [failure] = failures;
  if (failure) throw failure;
  return { published, withdrawn: withdrawn ?? [], deleted };
}

type IsOld = (object: ObjectInfo) => boolean;

/** Runs `work`. If it fails, keeps the failure for the end of the sweep and returns null. */
type TryTask = <T>(work: () => Promise<T>) => Promise<T | null>;

/** Publishes stale staged batches, those of each upload in their order. */
async function sweepStaging(
  { staging: bucket, publisher }: SweepOptions,
  tryTask: TryTask,
  isStale: IsOld,
  random: () => number,
): Promise<PublishResult[]> {
  const stale: BatchId[] = [];
  for await (const object of bucket.list(stagingPrefix)) {
    const id = parseManifestKey(object.key);
    if (id && isStale(object)) stale.push(id);
  }
  const published: PublishResult[] = [];
  const uploads = [...Map.groupBy(stale, ({ upload }) => upload).values()];
  for (const id of takeTurns(startAnywhere(uploads, random))) {
    const results = await tryTask(() => publisher.publishBatch(id, { origin: { via: 'sweep' } }));
    published.push(...(results ?? []));
  }
  return published;
}
