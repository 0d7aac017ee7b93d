import type { Bucket } from '../storage/bucket.ts';
import { blockedPrefix } from './layout.ts';

/** The store hashes that an administrator has withdrawn, as the private root says. */
export async function readBlocked(bucket: Bucket): Promise<ReadonlySet<string>> {
  const blocked = new Set<string>();
  for await (const { key } of bucket.list(blockedPrefix)) {
    blocked.add(key.slice(blockedPrefix.length));
  }
  return blocked;
}

/** What an administrator has withdrawn, as of when it was last looked at. */
export interface BlockedPaths {
  has(storeHash: string): boolean;
  /** Looks again: it may have been a while. */
  look(): Promise<void>;
}

export async function openBlocked(bucket: Bucket): Promise<BlockedPaths> {
  let blocked = await readBlocked(bucket);
  return {
    has: (hash) => blocked.has(hash),
    async look() {
      blocked = await readBlocked(bucket);
    },
  };
}
