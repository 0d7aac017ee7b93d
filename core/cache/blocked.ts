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
