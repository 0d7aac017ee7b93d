import type { Bucket } from '../storage/bucket.ts';
import { blockedKey, blockedPrefix, listingKey, narInfoKey } from './layout.ts';
import { createObject } from './objects.ts';

/** The paths that an administrator has withdrawn, as of the last read of the private root. */
export interface Blocklist {
  has(storeHash: string): boolean;
  /** Reads the private root again. */
  refresh(): Promise<void>;
}

export async function openBlocklist(privateRoot: Bucket): Promise<Blocklist> {
  let blocked = await listBlocked(privateRoot);
  return {
    has: (hash) => blocked.has(hash),
    async refresh() {
      blocked = await listBlocked(privateRoot);
    },
  };
}

/** Returns the store hashes of all withdrawn paths. */
export async function listBlocked(privateRoot: Bucket): Promise<ReadonlySet<string>> {
  const blocked = new Set<string>();
  for await (const { key } of privateRoot.list(blockedPrefix)) {
    blocked.add(key.slice(blockedPrefix.length));
  }
  return blocked;
}

/** The state of a path before it was withdrawn. */
export interface BlockResult {
  readonly wasPublished: boolean;
  readonly wasBlocked: boolean;
}

/**
 * Withdraws a path: deletes its narinfo and listing, and keeps it from being published or counted as
 * present. Keeps its NAR, which other paths may share.
 *
 * @param why for people; kept in the marker
 */
export async function blockPath(
  roots: { readonly public: Bucket; readonly private: Bucket },
  hash: string,
  why: string,
  at: Date,
): Promise<BlockResult> {
  const marker = JSON.stringify({ at: at.toISOString(), why });
  // The marker comes first: a publisher must not create the narinfo again after the delete.
  const wasBlocked = (await createObject(roots.private, blockedKey(hash), marker)) === 'exists';
  const wasPublished = (await roots.public.head(narInfoKey(hash))) !== null;
  await roots.public.delete([narInfoKey(hash)]);
  await roots.public.delete([listingKey(hash)]);
  return { wasPublished, wasBlocked };
}

/**
 * Allows a withdrawn path to be published again once a client stages it again.
 *
 * @returns whether it was withdrawn
 */
export async function unblockPath(privateRoot: Bucket, hash: string): Promise<boolean> {
  const wasBlocked = (await privateRoot.head(blockedKey(hash))) !== null;
  await privateRoot.delete([blockedKey(hash)]);
  return wasBlocked;
}
