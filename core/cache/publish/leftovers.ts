import { isNicheError, toError } from '../../errors.ts';
import type { Bucket, ObjectInfo } from '../../storage/bucket.ts';
import { mapConcurrent } from '../../util/concurrency.ts';
import {
  attemptsPrefix,
  narPrefix,
  parseManifestKey,
  parsePendingKey,
  parsePendingRealisationKey,
  pendingPrefix,
  receiptsPrefix,
  stagingPrefix,
} from '../layout.ts';
import type { CacheBuckets } from '../layout.ts';

const hourMs = 60 * 60 * 1000;
const dayMs = 24 * hourMs;

/** Objects that no manifest refers to (of interrupted uploads, crash markers) are kept this long. */
export const leftoverDays = 7;
/** Receipts are kept this long. */
export const receiptDays = 30;
const deletesAtOnce = 16;
/** Unfinished multipart uploads are kept this long. */
const uploadHours = 24;

/**
 * Deletes old objects that nothing needs any more, and ends old multipart uploads. What cannot be
 * deleted, such as an object under a hold, keeps nothing else from being deleted.
 *
 * @param now in milliseconds since 1970
 * @returns the number of deleted objects
 * @throws the first failure, after all other work is done
 */
export async function deleteLeftovers(buckets: CacheBuckets, now: number): Promise<number> {
  const olderThan = (ms: number) => (object: ObjectInfo) => object.modified.getTime() <= now - ms;
  const isLeftover = olderThan(leftoverDays * dayMs);
  const isOldReceipt = olderThan(receiptDays * dayMs);
  const cutOff = new Date(now - uploadHours * hourMs);
  const { public: publicRoot, staging, private: privateRoot } = buckets;
  let deleted = 0;
  const failures: Error[] = [];
  for (const task of [
    () => deleteEach(staging, findOrphans(staging, stagingPrefix, uploads, isLeftover)),
    () =>
      deleteEach(privateRoot, findOrphans(privateRoot, pendingPrefix, pendingPaths, isLeftover)),
    () => deleteEach(privateRoot, findOlder(privateRoot, attemptsPrefix, isLeftover)),
    () => deleteEach(staging, findOlder(staging, receiptsPrefix, isOldReceipt)),
    // Unfinished uploads elsewhere in these buckets may belong to other programs.
    () => endUploads(staging, stagingPrefix, cutOff),
    () => endUploads(publicRoot, narPrefix, cutOff),
  ]) {
    try {
      deleted += await task();
    } catch (error) {
      failures.push(toError(error));
    }
  }
  const [failure] = failures;
  if (failure) throw failure;
  return deleted;
}

/**
 * Deletes the objects, one by one where the storage refuses to delete one of them.
 *
 * @returns how many
 * @throws NicheError `storage-denied` after the others are deleted
 */
async function deleteEach(bucket: Bucket, found: Promise<readonly string[]>): Promise<number> {
  const keys = await found;
  try {
    await bucket.delete(keys);
    return keys.length;
  } catch (error) {
    if (!isNicheError(error, 'storage-denied')) throw error;
  }
  let failure: Error | undefined;
  await mapConcurrent(keys, deletesAtOnce, async (key) => {
    try {
      await bucket.delete([key]);
    } catch (error) {
      failure ??= toError(error);
    }
  });
  if (failure) throw failure;
  return keys.length;
}

/** @returns 0, since an unfinished upload is no object */
async function endUploads(bucket: Bucket, prefix: string, olderThan: Date): Promise<number> {
  await bucket.sweepUploads?.(prefix, olderThan);
  return 0;
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
  isRoot: (key) => parsePendingKey(key) !== null || parsePendingRealisationKey(key) !== null,
};

/** Returns the keys of old objects whose owner has no root. */
async function findOrphans(
  bucket: Bucket,
  prefix: string,
  { ownerOf, isRoot }: Ownership,
  isOld: (object: ObjectInfo) => boolean,
): Promise<string[]> {
  const owners = new Set<string>();
  const old: string[] = [];
  for await (const object of bucket.list(prefix)) {
    if (isRoot(object.key)) owners.add(ownerOf(object.key));
    else if (isOld(object)) old.push(object.key);
  }
  return old.filter((key) => !owners.has(ownerOf(key)));
}

async function findOlder(
  bucket: Bucket,
  prefix: string,
  isOld: (object: ObjectInfo) => boolean,
): Promise<string[]> {
  const old: string[] = [];
  for await (const object of bucket.list(prefix)) if (isOld(object)) old.push(object.key);
  return old;
}
