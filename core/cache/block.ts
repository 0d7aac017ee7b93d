import type { Bucket } from '../storage/bucket.ts';
import { blockedKey, listingKey, narInfoKey } from './layout.ts';
import { createObject } from './objects.ts';

/** What withdrawing a path changed. */
export interface Withdrawn {
  /** Whether it was published till now. */
  readonly wasPublished: boolean;
  /** Whether it was withdrawn already. */
  readonly wasBlocked: boolean;
}

/**
 * Withdraws a path: it is no longer readable, nor published again, nor counted as present. The mark
 * comes first, so that nobody publishes it anew in between. Its NAR stays, since others may share it.
 *
 * @param why for people; kept in the mark
 */
export async function blockPath(
  roots: { readonly public: Bucket; readonly private: Bucket },
  hash: string,
  why: string,
  at: Date,
): Promise<Withdrawn> {
  const mark = JSON.stringify({ at: at.toISOString(), why });
  const wasBlocked = (await createObject(roots.private, blockedKey(hash), mark)) === 'exists';
  const wasPublished = (await roots.public.head(narInfoKey(hash))) !== null;
  await roots.public.delete([narInfoKey(hash)]);
  await roots.public.delete([listingKey(hash)]);
  return { wasPublished, wasBlocked };
}

/**
 * Lets a path be published again, by whoever stages it again.
 *
 * @returns whether it was withdrawn
 */
export async function unblockPath(privateRoot: Bucket, hash: string): Promise<boolean> {
  const wasBlocked = (await privateRoot.head(blockedKey(hash))) !== null;
  await privateRoot.delete([blockedKey(hash)]);
  return wasBlocked;
}
