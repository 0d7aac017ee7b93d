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
import type { CacheBuckets } from '../layout.ts';

const hourMs = 60 * 60 * 1000;
const dayMs = 24 * hourMs;

/** Objects that no manifest refers to (of interrupted uploads, crash markers) are kept this long. */
export const leftoverDays = 7;
/** Receipts are kept this long. */
export const receiptDays = 30;
/** Unfinished multipart uploads are kept this long. */
const uploadHours = 24;

/**
 * Deletes old objects that nothing needs any more, and ends old multipart uploads.
 *
 * @param now in milliseconds since 1970
 * @returns the number of deleted objects
 */
export async function deleteLeftovers(buckets: CacheBuckets, now: number): Promise<number> {
  const olderThan = (ms: number) => (object: ObjectInfo) => object.modified.getTime() <= now - ms;
  const isLeftover = olderThan(leftoverDays * dayMs);
  const deleted =
    (await deleteOrphans(buckets.staging, stagingPrefix, uploads, isLeftover)) +
    (await deleteOrphans(buckets.private, pendingPrefix, pendingPaths, isLeftover)) +
    (await deleteOlder(buckets.private, attemptsPrefix, isLeftover)) +
    (await deleteOlder(buckets.staging, receiptsPrefix, olderThan(receiptDays * dayMs)));
  const cutOff = new Date(now - uploadHours * hourMs);
  // Unfinished uploads elsewhere in these buckets may belong to other programs.
  await buckets.staging.sweepUploads?.(stagingPrefix, cutOff);
  await buckets.public.sweepUploads?.(narPrefix, cutOff);
  return deleted;
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
