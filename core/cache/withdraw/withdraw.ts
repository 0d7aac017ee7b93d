import { randomBytes } from 'node:crypto';

import type { Bucket } from '../../storage/bucket.ts';
import {
  blockedKey,
  blockedNarKey,
  listingKey,
  narHashPrefix,
  narInfoKey,
  purgedNarKey,
  purgingKey,
  withdrawingKey,
} from '../layout.ts';
import type { CacheBuckets } from '../layout.ts';
import { writeObject } from '../objects.ts';
import { readNarInfoOrNull } from '../read-narinfo.ts';
import { findNarUrl, withdrawDebugLinks } from './debug-links.ts';
import { withdrawRealisations } from './realisations.ts';
import { createRecord } from './records.ts';

/** The roots that a withdrawal needs. */
export type PublicAndPrivate = Pick<CacheBuckets, 'public' | 'private'>;

/** Returns a new id, for the key of a marker that only its writer deletes. */
export const newMarkerId = (): string => randomBytes(8).toString('hex');

/**
 * Deletes public objects if the record `recordKey` exists.
 *
 * Publishers treat what `marker` marks as blocked. So it cannot be unblocked and published again
 * between the check of the record and the deletion. If the result of a deletion is unknown, the marker
 * stays, and a sweep deletes it later.
 *
 * @returns whether the record exists
 */
async function deleteIfBlocked(
  { private: bucket }: PublicAndPrivate,
  { marker, recordKey }: { readonly marker: string; readonly recordKey: string },
  deleteObjects: () => Promise<void>,
): Promise<boolean> {
  await writeObject(bucket, marker, '');
  const isBlocked = (await bucket.head(recordKey)) !== null;
  if (isBlocked) await deleteObjects();
  await bucket.delete([marker]);
  return isBlocked;
}

/** Deletes one object, see {@link removeForever}. */
export type RemoveObject = (bucket: Bucket, key: string) => Promise<void>;

const removeObject: RemoveObject = (bucket, key) => bucket.delete([key]);

/** Deletes an object with its older versions, where the storage keeps any. */
export const removeForever: RemoveObject = (bucket, key) =>
  bucket.deleteVersions ? bucket.deleteVersions(key) : bucket.delete([key]);

/**
 * Deletes the narinfo, the listing, the debug links and the realisations of a blocked path. Does nothing
 * for any other path.
 *
 * @returns whether the path is blocked
 */
export async function withdrawPath(
  buckets: PublicAndPrivate,
  hash: string,
  remove = removeObject,
): Promise<boolean> {
  const keys = { marker: withdrawingKey(hash, newMarkerId()), recordKey: blockedKey(hash) };
  return deleteIfBlocked(buckets, keys, async () => {
    const url = await findNarUrl(buckets.public, hash);
    // The narinfo first: without it, readers find nothing.
    await remove(buckets.public, narInfoKey(hash));
    await withdrawDebugLinks(buckets.public, hash, url, remove);
    await remove(buckets.public, listingKey(hash));
    await withdrawRealisations(buckets, hash, remove);
  });
}

/**
 * Deletes the NARs of purged contents, with their older versions. Does nothing for other contents.
 *
 * @returns the keys of the deleted NARs; null when the contents are not purged
 */
export async function removeNars(
  buckets: PublicAndPrivate,
  narHash: string,
): Promise<string[] | null> {
  const keys = { marker: purgingKey(narHash, newMarkerId()), recordKey: purgedNarKey(narHash) };
  const removed: string[] = [];
  const isPurged = await deleteIfBlocked(buckets, keys, async () => {
    for await (const { key } of buckets.public.list(narHashPrefix(narHash))) removed.push(key);
    for (const key of removed) await removeForever(buckets.public, key);
  });
  return isPurged ? removed : null;
}

/** What {@link withdrawRefused} needs. */
export interface WithdrawOptions extends PublicAndPrivate {
  readonly config: { readonly storeDir: string };
  readonly now: () => Date;
}

/**
 * Deletes the narinfo and the listing of a path if an administrator has blocked the path or its
 * contents. A forged request does nothing: the records in the private bucket decide.
 *
 * @returns whether the path or its contents are blocked
 */
export async function withdrawRefused(options: WithdrawOptions, hash: string): Promise<boolean> {
  if (await withdrawPath(options, hash)) return true;
  const info = await readNarInfoOrNull(options.public, hash, options.config.storeDir);
  if (!info) return false;
  const { path, narHash, deriver } = info;
  if ((await options.private.head(blockedNarKey(narHash))) === null) return false;
  // By this record, publishers that found the path meanwhile evict it from their memories.
  const at = options.now().toISOString();
  const record = { at, why: 'its contents are refused', path, narHash, deriver };
  await createRecord(options.private, blockedKey(hash), record);
  return withdrawPath(options, hash);
}
