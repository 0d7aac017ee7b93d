import { toError } from '../../errors.ts';
import type { Bucket, ObjectInfo } from '../../storage/bucket.ts';
import { parseManifestKey, parsePendingKey, pendingPrefix, stagingPrefix } from '../layout.ts';
import type { BatchId, WaitingMarker } from '../layout.ts';
import { deleteLeftovers } from './leftovers.ts';
import type { Publisher } from './publisher.ts';
import type { PublishResult } from './report.ts';

const dayMs = 24 * 60 * 60 * 1000;

export interface SweepOptions {
  readonly private: Bucket;
  readonly public: Bucket;
  readonly publisher: Publisher;
  /** How long a path waits for its references, in days. */
  readonly waitingDays: number;
  /** Staged batches older than this are published, in milliseconds. */
  readonly staleMs: number;
  /** When it is aborted, the sweep starts no more batches and paths. */
  readonly signal?: AbortSignal;
  readonly now?: () => Date;
}

export interface SweepReport {
  readonly published: readonly PublishResult[];
  /** The number of deleted objects. */
  readonly deleted: number;
}

/**
 * Repairs what events missed and deletes what is no longer needed: publishes stale staged batches,
 * resumes paths whose references are available, rejects paths that have waited too long, and deletes
 * leftovers.
 *
 * @throws the first failure, after all other work is done
 */
export async function sweep(options: SweepOptions): Promise<SweepReport> {
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
  const published = [
    ...(await sweepStaging(options, tryTask, olderThan(options.staleMs))),
    ...(await sweepPending(options, tryTask, olderThan(options.waitingDays * dayMs))),
  ];
  const deleted = await deleteLeftovers(options, now);
  const [failure] = failures;
  if (failure) throw failure;
  return { published, deleted };
}

type IsOld = (object: ObjectInfo) => boolean;

/** Runs `work`. If it fails, keeps the failure for the end of the sweep and returns null. */
type TryTask = <T>(work: () => Promise<T>) => Promise<T | null>;

/** Publishes stale staged batches. */
async function sweepStaging(
  { private: bucket, publisher }: SweepOptions,
  tryTask: TryTask,
  isStale: IsOld,
): Promise<PublishResult[]> {
  const stale: BatchId[] = [];
  for await (const object of bucket.list(stagingPrefix)) {
    const id = parseManifestKey(object.key);
    if (id && isStale(object)) stale.push(id);
  }
  const published: PublishResult[] = [];
  for (const id of stale) {
    const results = await tryTask(() => publisher.publishBatch(id, { origin: { via: 'sweep' } }));
    published.push(...(results ?? []));
  }
  return published;
}

/** Resumes parked paths. Rejects those that still wait after their time. */
async function sweepPending(
  { private: bucket, publisher }: SweepOptions,
  tryTask: TryTask,
  hasExpired: IsOld,
): Promise<PublishResult[]> {
  const published: PublishResult[] = [];
  for (const { waiting, isMarked, expired } of await listParked(bucket, publisher, hasExpired)) {
    const last = await tryTask(async () => {
      const resumed = await publisher.resumePath(waiting, { isMarked });
      const isTooLate = expired && resumed?.outcome.status === 'waiting';
      return isTooLate ? publisher.expirePath(waiting) : resumed;
    });
    if (last && last.outcome.status !== 'waiting') published.push(last);
  }
  return published;
}

/** A path with a pending record. */
interface ParkedPath {
  readonly waiting: WaitingMarker;
  readonly isMarked: boolean;
  readonly expired: boolean;
}

/** Lists the parked paths, and deletes markers without a record. */
async function listParked(
  bucket: Bucket,
  { pending }: Publisher,
  hasExpired: IsOld,
): Promise<ParkedPath[]> {
  const markers = new Map<string, WaitingMarker>();
  for await (const waiting of pending.listWaiting()) {
    markers.set(`${waiting.storeHash}/${waiting.upload}`, waiting);
  }
  const parked: ParkedPath[] = [];
  for await (const object of bucket.list(pendingPrefix)) {
    const record = parsePendingKey(object.key);
    if (!record) continue;
    const id = `${record.storeHash}/${record.upload}`;
    // Its writer crashed before the marker, or its wake-up was lost. Any reference will do then.
    const waiting = markers.get(id) ?? { ...record, reference: record.storeHash };
    parked.push({ waiting, isMarked: markers.delete(id), expired: hasExpired(object) });
  }
  // The markers left are of paths that no longer wait.
  await pending.unmarkWaiting([...markers.values()]);
  return parked;
}
