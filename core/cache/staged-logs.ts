import { isNicheError } from '../errors.ts';
import { maxLogBytes } from '../limits.ts';
import type { PathInfo } from '../nix/path-info.ts';
import { baseNameOf } from '../nix/store-path.ts';
import type { Bucket } from '../storage/bucket.ts';
import { stagedLogKey, uploadPrefix } from './layout.ts';
import { readObject } from './objects.ts';

/** The build logs that the upload staged, found by one LIST however many paths ask. */
export function stagedLogs(
  bucket: Bucket,
  upload: string,
  storeDir: string,
): {
  read(claim: PathInfo): Promise<Uint8Array | null>;
  /** Keys of the logs that were read. */
  used(): string[];
} {
  const used = new Set<string>();
  let keys: Promise<Set<string>> | undefined;

  async function list(): Promise<Set<string>> {
    const found = new Set<string>();
    for await (const { key } of bucket.list(uploadPrefix(upload))) {
      if (key.endsWith('.log')) found.add(key);
    }
    return found;
  }

  return {
    async read({ deriver }) {
      if (deriver === null) return null;
      keys ??= list();
      const key = stagedLogKey(upload, baseNameOf(deriver, storeDir));
      if (!(await keys).has(key)) return null;
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
