import { mapConcurrent } from '../../util/concurrency.ts';
import { isNicheError, isRejection } from '../../errors.ts';
import type { PublicKey } from '../../nix/keys.ts';
import { isRealisationName, lastRealisationKey, realisationName } from '../../nix/realisation.ts';
import { storeHash } from '../../nix/store-path.ts';
import type { Bucket } from '../../storage/bucket.ts';
import { createBatchReceiptReader } from '../receipts/batch-receipts.ts';
import { parseManifestKey, stagingPrefix, uploadPrefix } from '../layout.ts';
import type { BatchId, CacheBuckets, WaitingMarker } from '../layout.ts';
import {
  listStrongestReceipts,
  listUploadReceipts,
  readListedReceipt,
  selectStrongest,
} from '../receipts/listed-receipts.ts';
import type { ListedReceipt, ListedUpload } from '../receipts/listed-receipts.ts';
import { readManifest } from '../manifest.ts';
import { isCompletePath } from '../complete-path.ts';
import type { OpenCache } from '../open.ts';
import { createPendingPaths } from '../publish/pending.ts';
import type { PendingPaths, PendingRecord } from '../publish/pending.ts';
import { isPublished } from '../receipts/receipts.ts';
import type { Receipt } from '../receipts/receipts.ts';
import { readRealisation } from '../read-realisation.ts';
import { readSignedNarInfo } from '../signed-narinfo.ts';
import { uploadTime } from '../upload-id.ts';

/** A batch staged for longer than this suggests that no publisher runs, in milliseconds. */
export const staleStagedMs = 15 * 60 * 1000;
/** Older rejections are not reported, in milliseconds. */
const rejectedWithinMs = 24 * 60 * 60 * 1000;
/** The longest list in a report. */
const maxListed = 100;
const readsAtOnce = 8;
const narInfosAtOnce = 32;

/** A batch that no publisher has finished yet. */
export interface StagedBatchStatus extends BatchId {
  /** ISO 8601. */
  readonly stagedAt: string;
}

/** The state of one upload. Times are ISO 8601. */
export interface UploadStatus {
  readonly upload: string;
  readonly startedAt: string;
  /** The strongest receipt of each path, and of each batch that was refused whole. */
  readonly receipts: readonly UploadReceipt[];
  /**
   * Batches not finished yet; null for clients, which have no access to them. `paths` is null when
   * the manifest cannot be read.
   */
  readonly staged:
    readonly (StagedBatchStatus & { readonly paths: readonly string[] | null })[] | null;
}

export interface UploadReceipt extends Receipt {
  /** The store hash, or the batch's number when a whole batch was refused. */
  readonly subject: string;
  /**
   * Why the cache does not confirm a receipt that reports a path as published: the receipt is forged,
   * or the path was withdrawn. Absent when it does.
   */
  readonly unconfirmed?: string;
  /** With `conflict`: readers get the cache's own path, which is complete and signed. */
  readonly available?: true;
}

/**
 * Returns the state of an upload; null when there is no trace of it. Receipts are unsigned, so those
 * that report a path as published are checked against its narinfo, one GET for each. For those that
 * report a conflict, the cache's own path is looked up.
 *
 * @param publicKeys the keys that sign the cache's narinfos
 * @throws NicheError `storage-…` when the staging or the public root cannot be read;
 *   `upstream-unavailable`
 */
export async function readUploadStatus(
  cache: Pick<OpenCache, 'public' | 'staging' | 'config' | 'upstreams'>,
  upload: string,
  publicKeys: readonly PublicKey[],
): Promise<UploadStatus | null> {
  const { staging: bucket, config } = cache;
  const { storeDir } = config;
  // Staging first: a batch that is finished in between has its receipts.
  const staged = await readStaged(bucket, upload, storeDir);
  const listed = [...(await listStrongestReceipts(bucket, upload)).values()];
  const receipts = await mapConcurrent(listed, readsAtOnce, async (each) => {
    const receipt = await readListedReceipt(bucket, each);
    return receipt && { subject: each.subject, ...receipt };
  });
  if (staged?.length === 0 && receipts.length === 0) return null;
  return {
    upload,
    startedAt: uploadTime(upload).toISOString(),
    receipts: await mapConcurrent(
      receipts.filter((receipt) => receipt !== null),
      narInfosAtOnce,
      (receipt) => checkReceipt(cache, receipt, publicKeys),
    ),
    staged,
  };
}

async function checkReceipt(
  cache: Pick<OpenCache, 'public' | 'config' | 'upstreams'>,
  receipt: UploadReceipt,
  publicKeys: readonly PublicKey[],
): Promise<UploadReceipt> {
  const { status, code, path } = receipt;
  if (isPublished(status)) {
    const unconfirmed = await whyUnconfirmed(cache, path, publicKeys);
    return unconfirmed === null ? receipt : { ...receipt, unconfirmed };
  }
  const isConflict = code === 'conflict' && path !== undefined;
  const available = isConflict && (await isCompletePath(cache, path, publicKeys));
  return available ? { ...receipt, available } : receipt;
}

async function whyUnconfirmed(
  { public: root, config }: Pick<OpenCache, 'public' | 'config'>,
  path: string | undefined,
  publicKeys: readonly PublicKey[],
): Promise<string | null> {
  if (path === undefined) return 'it does not contain the path';
  if (isRealisationName(path)) {
    const key = lastRealisationKey(path);
    const trusted = { storeDir: config.storeDir, publicKeys };
    const realisation = await readRealisation(root, key, trusted);
    if (realisation.kind === 'found') return null;
    return realisation.kind === 'absent' ? `${key} is missing` : `${key}: ${realisation.why}`;
  }
  const found = await readSignedNarInfo(root, storeHash(path), config.storeDir, publicKeys);
  if (found.kind !== 'signed') return found.problem;
  return found.info.path === path ? null : `the cache has ${found.info.path} instead`;
}

async function readStaged(
  bucket: Bucket,
  upload: string,
  storeDir: string,
): Promise<UploadStatus['staged']> {
  try {
    const batches = await listStaged(bucket, uploadPrefix(upload));
    return await mapConcurrent(batches, readsAtOnce, async (batch) => {
      return { ...batch, paths: await stagedPaths(bucket, batch, storeDir) };
    });
  } catch (error) {
    if (isNicheError(error, 'storage-denied')) return null;
    throw error;
  }
}

/** The health of a cache. Times are ISO 8601. */
export interface CacheStatus {
  /** When the last path was published; null when no receipt is that recent. */
  readonly lastPublished: string | null;
  readonly staged: {
    readonly batches: number;
    /** The batches staged for longer than {@link staleStagedMs}, oldest first. */
    readonly stale: readonly StagedBatchStatus[];
  };
  readonly waiting: {
    readonly paths: number;
    readonly references: number;
    /** At most {@link maxListed}, the references with the most waiting paths first. */
    readonly missing: readonly MissingReference[];
  };
  /** Rejections within {@link rejectedWithinMs}. */
  readonly rejected: {
    readonly count: number;
    /** At most {@link maxListed}, newest first. */
    readonly latest: readonly RejectedPath[];
  };
}

/** A reference that paths wait for. */
export interface MissingReference {
  readonly hash: string;
  /** The store path; null when no pending record gives it. */
  readonly path: string | null;
  /** The number of paths that wait for it. */
  readonly waiters: number;
  /** One of these paths, and when it began to wait. */
  readonly first: { readonly path: string; readonly since: string } | null;
}

export interface RejectedPath {
  readonly upload: string;
  /** The store path; null when a whole batch was refused, or the stored record is damaged. */
  readonly path: string | null;
  /** A `RejectionCode`; a newer publisher may write others. */
  readonly code: string;
  readonly message: string;
  readonly at: string;
}

/**
 * Returns the health of a cache. Lists its staging and private roots, and reads few of their objects.
 *
 * @throws NicheError `storage-…` when one of them cannot be read
 */
export async function readCacheStatus(
  { staging, private: privateRoot }: Pick<CacheBuckets, 'staging' | 'private'>,
  now: Date = new Date(),
): Promise<CacheStatus> {
  const staged = await listStaged(staging, stagingPrefix);
  const staleBefore = new Date(now.getTime() - staleStagedMs).toISOString();
  const stale = staged.filter(({ stagedAt }) => stagedAt < staleBefore);
  const { lastPublished, rejected } = await surveyReceipts(staging, now);
  return {
    lastPublished: lastPublished?.toISOString() ?? null,
    staged: {
      batches: staged.length,
      stale: stale.sort((one, other) => (one.stagedAt < other.stagedAt ? -1 : 1)),
    },
    waiting: await surveyWaiting(privateRoot),
    rejected: {
      count: rejected.length,
      latest: await readRejected(staging, rejected.slice(0, maxListed)),
    },
  };
}

async function listStaged(bucket: Bucket, prefix: string): Promise<StagedBatchStatus[]> {
  const staged: StagedBatchStatus[] = [];
  for await (const { key, modified } of bucket.list(prefix)) {
    const id = parseManifestKey(key);
    if (id) staged.push({ ...id, stagedAt: modified.toISOString() });
  }
  return staged.sort((one, other) =>
    one.upload === other.upload ? one.batch - other.batch : one.upload < other.upload ? -1 : 1,
  );
}

async function stagedPaths(
  bucket: Bucket,
  id: BatchId,
  storeDir: string,
): Promise<string[] | null> {
  try {
    const found = await readManifest(bucket, id, storeDir);
    if (!found) return null;
    const { paths, realisations } = found.manifest;
    return [...paths.map(({ path }) => path), ...realisations.map(realisationName)];
  } catch (error) {
    // The publisher will write a receipt about it.
    if (isRejection(error)) return null;
    throw error;
  }
}

async function surveyReceipts(
  bucket: Bucket,
  now: Date,
): Promise<{ lastPublished: Date | null; rejected: ListedReceipt[] }> {
  const since = now.getTime() - rejectedWithinMs;
  const isRecent = ({ modified }: { modified: Date }): boolean => modified.getTime() >= since;
  const suspects: ListedUpload[] = [];
  let lastPublished: Date | null = null;
  for await (const listed of listUploadReceipts(bucket)) {
    const single = [...listed.single.values()].map((each) => ({
      ...each,
      statuses: [each.status],
    }));
    const objects = [...single, ...listed.batches];
    for (const { statuses, modified } of objects) {
      if (statuses.includes('published') && modified > (lastPublished ?? 0)) {
        lastPublished = modified;
      }
    }
    const hasRejections = objects.some(
      (each) => each.statuses.includes('rejected') && isRecent(each),
    );
    if (hasRejections) suspects.push(listed);
  }
  // Other uploads need no reading: their keys show enough.
  const reader = createBatchReceiptReader(bucket);
  const strongest = await mapConcurrent(suspects, readsAtOnce, (listed) =>
    selectStrongest(listed, reader),
  );
  const rejected = strongest
    .flatMap((receipts) => [...receipts.values()])
    .filter((receipt) => receipt.status === 'rejected' && isRecent(receipt))
    .sort((one, other) => other.modified.getTime() - one.modified.getTime());
  return { lastPublished, rejected };
}

async function readRejected(
  bucket: Bucket,
  listed: readonly ListedReceipt[],
): Promise<RejectedPath[]> {
  const read = await mapConcurrent(listed, readsAtOnce, async (each) => {
    const receipt = await readListedReceipt(bucket, each);
    if (!receipt) return null;
    const { path = null, code = 'failed', message = '', at } = receipt;
    return { upload: each.upload, path, code, message, at };
  });
  return read.filter((rejected) => rejected !== null);
}

async function surveyWaiting(bucket: Bucket): Promise<CacheStatus['waiting']> {
  const pending = createPendingPaths(bucket);
  const waiters = new Map<
    string,
    { readonly hashes: Set<string>; readonly first: WaitingMarker }
  >();
  const paths = new Set<string>();
  for await (const waiting of pending.listWaiting()) {
    const known = waiters.get(waiting.reference) ?? { hashes: new Set<string>(), first: waiting };
    known.hashes.add(waiting.storeHash);
    waiters.set(waiting.reference, known);
    paths.add(waiting.storeHash);
  }
  const most = [...waiters.values()]
    .sort((one, other) => other.hashes.size - one.hashes.size)
    .slice(0, maxListed);
  const missing = await mapConcurrent(most, readsAtOnce, ({ first, hashes }) =>
    nameMissing(pending, first, hashes.size),
  );
  return { paths: paths.size, references: waiters.size, missing };
}

/** A marker has only hashes. The pending record of a waiting path has the reference's path. */
async function nameMissing(
  pending: PendingPaths,
  { reference, storeHash: waiter, upload }: WaitingMarker,
  waiters: number,
): Promise<MissingReference> {
  const record = await readableRecord(pending, waiter, upload);
  const { path: own, references = [] } = record?.info ?? {};
  // A path waits for itself while its upstream has an unusable narinfo of it.
  const candidates = own === undefined ? [] : [own, ...references];
  const path = candidates.find((candidate) => storeHash(candidate) === reference);
  return {
    hash: reference,
    path: path ?? null,
    waiters,
    first: record && { path: record.info.path, since: record.since },
  };
}

/** Reads a pending record; null when it is gone, or damaged, which only the publisher reports. */
async function readableRecord(
  pending: PendingPaths,
  waiter: string,
  upload: string,
): Promise<PendingRecord | null> {
  try {
    return await pending.readRecord(waiter, upload);
  } catch (error) {
    if (isRejection(error) || isNicheError(error, 'newer-version')) return null;
    throw error;
  }
}
