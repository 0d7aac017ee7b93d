import type { Bucket } from '../../storage/bucket.ts';
import { blockedKey, narInfoKey, unblockedKey } from '../layout.ts';
import { writeObject } from '../objects.ts';
import { createRecord } from './records.ts';
import type { BlockedRecord } from './records.ts';
import { newMarkerId, withdrawPath } from './withdraw.ts';
import type { PublicAndPrivate } from './withdraw.ts';

/** The state of a path before it was withdrawn. */
export interface BlockResult {
  readonly wasPublished: boolean;
  readonly wasBlocked: boolean;
}

/**
 * Withdraws a path: deletes its narinfo and listing, and keeps it from being published or counted as
 * present. Keeps its NAR, which other paths may share.
 *
 * A publisher that is publishing the path right now may still create the narinfo. It finds the record
 * afterwards, and has the path withdrawn again.
 */
export async function blockPath(
  buckets: PublicAndPrivate,
  hash: string,
  record: BlockedRecord,
): Promise<BlockResult> {
  // The record comes first: it stops every publisher that looks from now on.
  const wasBlocked = (await createRecord(buckets.private, blockedKey(hash), record)) === 'exists';
  const wasPublished = (await buckets.public.head(narInfoKey(hash))) !== null;
  await withdrawPath(buckets, hash);
  return { wasPublished, wasBlocked };
}

/**
 * Allows a withdrawn path to be published again once a client stages it again. Leaves a marker, so
 * that processes which found the path published earlier look again.
 *
 * @returns whether it was withdrawn
 */
export async function unblockPath(privateBucket: Bucket, hash: string): Promise<boolean> {
  const wasBlocked = (await privateBucket.head(blockedKey(hash))) !== null;
  if (!wasBlocked) return false;
  // At every moment there is one of the two.
  await writeObject(privateBucket, unblockedKey(hash, newMarkerId()), '');
  await privateBucket.delete([blockedKey(hash)]);
  return true;
}
