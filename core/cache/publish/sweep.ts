import { toError } from '../../errors.ts';
import type { Bucket, ObjectInfo } from '../../storage/bucket.ts';
import {
  attemptsPrefix,
  narPrefix,
  parseManifestKey,
  parsePendingKey,
  pendingPrefix,
  receiptsPrefix,
  stagingPrefix,
} from '../layout.ts';
import type { BatchId, WaitingMarker } from '../layout.ts';
import type { Publisher } from './publisher.ts';
import type { PublishResult } from './report.ts';

const hourMs = 60 * 60 * 1000;
const dayMs = 24 * hourMs;

/** What no manifest names any more (an upload broken off, attempt markers) is kept this long. */
const leftoverDays = 7;
/** Receipts are kept this long. */
export const receiptDays = 30;
/** Unfinished multipart uploads are kept this long. */
const uploadHours = 24;

export interface SweepOptions {
  readonly private: Bucket;
  readonly public: Bucket;
  readonly publisher: Publisher;
  /** How long a path waits for its references, in days. */
  readonly waitingDays: number;
  /** Which staged batches the sweep publishes: those older than this, in milliseconds. */
  readonly staleMs: number;
  /** Once it is aborted no more batches and paths are begun. */
  readonly signal?: AbortSignal;
  readonly now?: () => Date;
}

export interface SweepReport {
  readonly published: readonly PublishResult[];
  /** Objects deleted. */
  readonly deleted: number;
}

/**
 * Finishes what was dropped and clears away what is handled: publishes stale staged batches, resumes
 * paths whose references have come, gives up on those that have waited too long, deletes leftovers.
 *
 * @throws the first failure, once everything else is done: what fails now must not keep the rest
 */
export async function sweep(options: SweepOptions): Promise<SweepReport> {
  const now = (options.now ?? (() => new Date()))().getTime();
  const olderThan = (ms: number) => (object: ObjectInfo) => object.modified.getTime() <= now - ms;
  const failures: Error[] = [];
  const attempt: TryTask = async (work) => {
    if (options.signal?.aborted === true) return null;
    try {
      return await work();
    } catch (error) {
      failures.push(toError(error));
      return null;
    }
  };
  const published = [
    ...(await sweepStaging(options, attempt, olderThan(options.staleMs))),
    ...(await sweepPending(options, attempt, olderThan(options.waitingDays * dayMs))),
  ];
  const isLeftover = olderThan(leftoverDays * dayMs);
  const deleted =
    (await sweepUploads(options.private, isLeftover)) +
    (await sweepAttachments(options.private, isLeftover)) +
    (await deleteOlder(options.private, attemptsPrefix, isLeftover)) +
    (await deleteOlder(options.private, receiptsPrefix, olderThan(receiptDays * dayMs)));
  const cutOff = new Date(now - uploadHours * hourMs);
  // Whatever else is under way in these buckets may be somebody else's.
  await options.private.sweepUploads?.(stagingPrefix, cutOff);
  await options.public.sweepUploads?.(narPrefix, cutOff);
  const [failure] = failures;
  if (failure) throw failure;
  return { published, deleted };
}

/** Runs `work` and remembers its failure; null then. */
type TryTask = <T>(work: () => Promise<T>) => Promise<T | null>;

async function sweepStaging(
  { private: bucket, publisher }: SweepOptions,
  attempt: TryTask,
  isStale: (object: ObjectInfo) => boolean,
): Promise<PublishResult[]> {
  const stale: BatchId[] = [];
  for await (const object of bucket.list(stagingPrefix)) {
    const id = parseManifestKey(object.key);
    if (id && isStale(object)) stale.push(id);
  }
  const published: PublishResult[] = [];
  for (const id of stale)
    published.push(
      ...((await attempt(() => publisher.publishBatch(id, { origin: { via: 'sweep' } }))) ?? []),
    );
  return published;
}

async function sweepPending(
  { private: bucket, publisher }: SweepOptions,
  attempt: TryTask,
  hasExpired: (object: ObjectInfo) => boolean,
): Promise<PublishResult[]> {
  const markers = new Map<string, WaitingMarker>();
  for await (const waiting of publisher.pending.listWaiting()) {
    markers.set(`${waiting.storeHash}/${waiting.upload}`, waiting);
  }
  const waitingFor: { waiting: WaitingMarker; expired: boolean }[] = [];
  for await (const object of bucket.list(pendingPrefix)) {
    const pending = parsePendingKey(object.key);
    if (!pending) continue;
    const id = `${pending.storeHash}/${pending.upload}`;
    // Without a marker (its writer died in between) it waits for itself, until it is resumed.
    const waiting = markers.get(id) ?? { ...pending, reference: pending.storeHash };
    markers.delete(id);
    waitingFor.push({ waiting, expired: hasExpired(object) });
  }
  // What is left are markers of paths that no longer wait.
  for (const waiting of markers.values()) await publisher.pending.unmarkWaiting(waiting);

  const published: PublishResult[] = [];
  for (const { waiting, expired } of waitingFor) {
    const last = await attempt(async () => {
      const resumed = await publisher.resumePath(waiting);
      const isTooLate = expired && resumed?.outcome.status === 'waiting';
      return isTooLate ? publisher.expirePath(waiting) : resumed;
    });
    if (last && last.outcome.status !== 'waiting') published.push(last);
  }
  return published;
}

/** Deletes what no manifest of its upload can name any more. */
async function sweepUploads(
  bucket: Bucket,
  isOld: (object: ObjectInfo) => boolean,
): Promise<number> {
  const alive = new Set<string>();
  const old: string[] = [];
  for await (const object of bucket.list(stagingPrefix)) {
    const id = parseManifestKey(object.key);
    if (id) alive.add(id.upload);
    else if (isOld(object)) old.push(object.key);
  }
  // As long as a manifest of the upload is there, so may be the use of what lies beside it.
  const unused = old.filter((key) => !alive.has(key.split('/')[1] ?? ''));
  await bucket.delete(unused);
  return unused.length;
}

/** Deletes listings and logs of pending paths whose record is gone. */
async function sweepAttachments(
  bucket: Bucket,
  isOld: (object: ObjectInfo) => boolean,
): Promise<number> {
  const alive = new Set<string>();
  const old: string[] = [];
  for await (const object of bucket.list(pendingPrefix)) {
    if (parsePendingKey(object.key)) alive.add(withoutExtension(object.key));
    else if (isOld(object)) old.push(object.key);
  }
  const unused = old.filter((key) => !alive.has(withoutExtension(key)));
  await bucket.delete(unused);
  return unused.length;
}

const withoutExtension = (key: string): string => key.slice(0, key.lastIndexOf('.'));

async function deleteOlder(
  bucket: Bucket,
  prefix: string,
  isOld: (object: ObjectInfo) => boolean,
): Promise<number> {
  const old: string[] = [];
  for await (const object of bucket.list(prefix)) if (isOld(object)) old.push(object.key);
  await bucket.delete(old);
  return old.length;
}
