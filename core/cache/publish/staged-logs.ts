import { isNicheError } from '../../errors.ts';
import { maxLogBytes } from '../../limits.ts';
import type { PathInfo } from '../../nix/path-info.ts';
import { baseNameOf } from '../../nix/store-path.ts';
import type { Bucket } from '../../storage/bucket.ts';
import { stagedLogKey, uploadPrefix } from '../layout.ts';
import { readObject } from '../objects.ts';

/** The staged build logs of an upload. One LIST finds them all. */
export interface StagedLogs {
  /** Reads the path's log; null when there is none, or it is too long or unreadable. */
  readLog(claim: PathInfo): Promise<Uint8Array | null>;
  /** Divides paths, in order, into groups whose logs fit into memory together. */
  groupBySize<T extends { readonly claim: PathInfo }>(paths: readonly T[]): Promise<T[][]>;
  /** Returns the keys of the logs that were read. */
  readKeys(): string[];
}

/** The most that the logs of one group have together, in bytes. */
const maxGroupBytes = 2 * maxLogBytes;

/** Objects of an upload that are listed for their logs: each batch lists them, 1,000 a request. */
export const maxListedObjects = 50_000;

export function openStagedLogs(bucket: Bucket, upload: string, storeDir: string): StagedLogs {
  const keysRead = new Set<string>();
  let listed: Promise<Map<string, number>> | undefined;

  /** Returns the size of each staged log in bytes, by key. Ignores the logs of an excessive upload. */
  async function listLogs(): Promise<Map<string, number>> {
    const sizes = new Map<string, number>();
    let listed = 0;
    for await (const { key, size } of bucket.list(uploadPrefix(upload))) {
      listed += 1;
      if (listed > maxListedObjects) break;
      if (key.endsWith('.log')) sizes.set(key, size);
    }
    return sizes;
  }

  async function findLog({ deriver }: PathInfo): Promise<{ key: string; size: number } | null> {
    if (deriver === null) return null;
    listed ??= listLogs();
    const key = stagedLogKey(upload, baseNameOf(deriver, storeDir));
    const size = (await listed).get(key);
    return size === undefined ? null : { key, size };
  }

  return {
    async groupBySize<T extends { readonly claim: PathInfo }>(paths: readonly T[]) {
      const groups: T[][] = [];
      let groupBytes = Infinity;
      for (const path of paths) {
        // Reading stops at the limit.
        const bytes = Math.min((await findLog(path.claim))?.size ?? 0, maxLogBytes);
        if (groupBytes + bytes > maxGroupBytes) {
          groups.push([]);
          groupBytes = 0;
        }
        groups.at(-1)?.push(path);
        groupBytes += bytes;
      }
      return groups;
    },
    async readLog(claim) {
      const log = await findLog(claim);
      if (!log) return null;
      const { key } = log;
      keysRead.add(key);
      try {
        return await readObject(bucket, key, maxLogBytes);
      } catch (error) {
        // Logs are optional: the path is published without a log that is too long or unreadable.
        if (isNicheError(error, 'oversized', 'failed')) return null;
        throw error;
      }
    },
    readKeys: () => [...keysRead],
  };
}
