import { isNicheError } from '../../errors.ts';
import { maxLogBytes } from '../../limits.ts';
import type { PathInfo } from '../../nix/path-info.ts';
import { baseNameOf } from '../../nix/store-path.ts';
import type { Bucket } from '../../storage/bucket.ts';
import { stagedLogKey, uploadPrefix } from '../layout.ts';
import { readObject } from '../objects.ts';

/** The build logs that an upload staged, found by one LIST however many paths ask. */
export interface StagedLogs {
  read(claim: PathInfo): Promise<Uint8Array | null>;
  /** Divides paths, in their order, so that the logs of each group are not too much to hold at once. */
  inGroups<T extends { readonly claim: PathInfo }>(paths: readonly T[]): Promise<T[][]>;
  /** Keys of the logs that were read. */
  used(): string[];
}

/** Of all logs of a group, in bytes. */
const maxHeldBytes = 2 * maxLogBytes;

export function stagedLogs(bucket: Bucket, upload: string, storeDir: string): StagedLogs {
  const used = new Set<string>();
  let listed: Promise<Map<string, number>> | undefined;

  /** What is staged, by key, in bytes. */
  async function list(): Promise<Map<string, number>> {
    const found = new Map<string, number>();
    for await (const { key, size } of bucket.list(uploadPrefix(upload))) {
      if (key.endsWith('.log')) found.set(key, size);
    }
    return found;
  }

  /** The path's log; null when there is none. */
  async function find({ deriver }: PathInfo): Promise<{ key: string; size: number } | null> {
    if (deriver === null) return null;
    listed ??= list();
    const key = stagedLogKey(upload, baseNameOf(deriver, storeDir));
    const size = (await listed).get(key);
    return size === undefined ? null : { key, size };
  }

  return {
    async inGroups<T extends { readonly claim: PathInfo }>(paths: readonly T[]) {
      const groups: T[][] = [];
      let heldBytes = Infinity;
      for (const path of paths) {
        // No more is read of one that is too long.
        const bytes = Math.min((await find(path.claim))?.size ?? 0, maxLogBytes);
        if (heldBytes + bytes > maxHeldBytes) {
          groups.push([]);
          heldBytes = 0;
        }
        groups.at(-1)?.push(path);
        heldBytes += bytes;
      }
      return groups;
    },
    async read(claim) {
      const log = await find(claim);
      if (!log) return null;
      const { key } = log;
      used.add(key);
      try {
        return await readObject(bucket, key, maxLogBytes);
      } catch (error) {
        // A log is a courtesy: one that is too long is left out, the path is published.
        if (isNicheError(error, 'oversized')) return null;
        throw error;
      }
    },
    used: () => [...used],
  };
}
