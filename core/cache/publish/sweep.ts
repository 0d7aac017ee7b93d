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

/** Objects that no manifest refers to (of interrupted uploads, crash markers) are kept this long. */
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
  const olderThan = (ms: number) => (object: ObjectInfo) => object.modified.getTime() <= now - ms;
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
  const isLeftover = olderThan(leftoverDays * dayMs);
  const deleted =
    (await deleteOrphans(options.private, stagingPrefix, uploads, isLeftover)) +
    (await deleteOrphans(options.private, pendingPrefix, pendingPaths, isLeftover)) +
    (await deleteOlder(options.private, attemptsPrefix, isLeftover)) +
    (await deleteOlder(options.private, receiptsPrefix, olderThan(receiptDays * dayMs)));
  const cutOff = new Date(now - uploadHours * hourMs);
  // Unfinished uploads elsewhere in these buckets may belong to other programs.
  await options.private.sweepUploads?.(stagingPrefix, cutOff);
  await options.public.sweepUploads?.(narPrefix, cutOff);
  const [failure] = failures;
  if (failure) throw failure;
  return { published, deleted };
}

/** Runs `work`. If it fails, keeps the failure for the end of the sweep and returns null. */
type TryTask = <T>(work: () => Promise<T>) => Promise<T | null>;

async function sweepStaging(
  { private: bucket, publisher }: SweepOptions,
  tryTask: TryTask,
  isStale: (object: ObjectInfo) => boolean,
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

async function sweepPending(
  { private: bucket, publisher }: SweepOptions,
  tryTask: TryTask,
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
    // Its writer crashed before the marker. A path that waits for itself is resumed all the same.
    const waiting = markers.get(id) ?? { ...pending, reference: pending.storeHash };
    markers.delete(id);
    waitingFor.push({ waiting, expired: hasExpired(object) });
  }
  // The markers left are of paths that no longer wait.
  for (const waiting of markers.values()) await publisher.pending.unmarkWaiting(waiting);

  const published: PublishResult[] = [];
  for (const { waiting, expired } of waitingFor) {
    const last = await tryTask(async () => {
      const resumed = await publisher.resumePath(waiting);
      const isTooLate = expired && resumed?.outcome.status === 'waiting';
      return isTooLate ? publisher.expirePath(waiting) : resumed;
    });
    if (last && last.outcome.status !== 'waiting') published.push(last);
  }
  return published;
}

/** Groups objects by owner. The objects of an owner are kept as long as one of them is its root. */
interface Ownership {
  readonly ownerOf: (key: string) => string;
  readonly isRoot: (key: string) => boolean;
}

/** A manifest may refer to any object of its upload. */
const uploads: Ownership = {
  ownerOf: (key) => key.split('/')[1] ?? '',
  isRoot: (key) => parseManifestKey(key) !== null,
};

/** The listing and the log of a pending path have the name of its record. */
const pendingPaths: Ownership = {
  ownerOf: (key) => key.slice(0, key.lastIndexOf('.')),
  isRoot: (key) => parsePendingKey(key) !== null,
};

/** Deletes old objects whose owner has no root. */
async function deleteOrphans(
  bucket: Bucket,
  prefix: string,
  { ownerOf, isRoot }: Ownership,
  isOld: (object: ObjectInfo) => boolean,
): Promise<number> {
  const owners = new Set<string>();
  const old: string[] = [];
  for await (const object of bucket.list(prefix)) {
    if (isRoot(object.key)) owners.add(ownerOf(object.key));
    else if (isOld(object)) old.push(object.key);
  }
  const orphans = old.filter((key) => !owners.has(ownerOf(key)));
  await bucket.delete(orphans);
  return orphans.length;
}

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
