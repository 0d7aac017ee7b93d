import { isNicheError } from '../../errors.ts';
import { maxAttempts } from '../../limits.ts';
import type { Bucket } from '../../storage/bucket.ts';
import { attemptsPrefix } from '../layout.ts';
import type { BatchId } from '../layout.ts';
import { createBestEffort } from '../objects.ts';

/**
 * Counts the attempts that died, so that a path which kills its publisher cannot do so for ever.
 *
 * An attempt leaves a marker while it runs and takes it away when it ends in order. A marker older
 * than the longest time that an attempt may take belongs to one that died. A batch's first attempts
 * cost one marker in all; only once one of them has died does each path get its own.
 */
export interface CrashGuard {
  /** Runs `attempt` under a marker of the batch. */
  guardBatch<T>(id: BatchId, attempt: (batch: GuardedBatch) => Promise<T>): Promise<T>;
}

export interface GuardedBatch {
  /** Whether an earlier attempt at the batch died, so that each path is under a marker of its own. */
  readonly isolatesPaths: boolean;
  /**
   * Runs `attempt` on one path, under a marker of its own where an earlier attempt died.
   *
   * @returns null, without running it, when too many attempts at this path have died
   */
  guardPath<T>(storeHash: string, attempt: () => Promise<T>): Promise<T | null>;
  /** Forgets every marker of the batch, once nothing of it is left to do. */
  clearMarkers(): Promise<void>;
}

export interface CrashGuardOptions {
  /** The longest time that one attempt may take, in milliseconds. */
  readonly timeLimitMs: number;
  readonly now: () => Date;
  readonly newId: () => string;
}

export function createCrashGuard(bucket: Bucket, options: CrashGuardOptions): CrashGuard {
  const { timeLimitMs, now, newId } = options;

  async function dead(prefix: string): Promise<number> {
    const latest = now().getTime() - timeLimitMs;
    let count = 0;
    for await (const { modified } of bucket.list(prefix)) {
      if (modified.getTime() < latest) count += 1;
    }
    return count;
  }

  async function marked<T>(key: string, attempt: () => Promise<T>): Promise<T> {
    await createBestEffort(bucket, key, '');
    let result: T;
    try {
      result = await attempt();
    } catch (error) {
      // What niche itself reports (storage or an upstream is down) is no death; anything else is.
      if (isNicheError(error)) await bucket.delete([key]);
      throw error;
    }
    await bucket.delete([key]);
    return result;
  }

  return {
    async guardBatch(id, attempt) {
      const prefix = `${attemptsPrefix}${id.upload}/${id.batch}/`;
      const isCareful = (await dead(`${prefix}batch.`)) > 0;
      return marked(`${prefix}batch.${newId()}`, () =>
        attempt({
          isolatesPaths: isCareful,
          async guardPath(storeHash, attemptPath) {
            if (!isCareful) return attemptPath();
            const pathPrefix = `${prefix}${storeHash}.`;
            if ((await dead(pathPrefix)) >= maxAttempts) return null;
            return marked(`${pathPrefix}${newId()}`, attemptPath);
          },
          async clearMarkers() {
            const markers: string[] = [];
            for await (const { key } of bucket.list(prefix)) markers.push(key);
            await bucket.delete(markers);
          },
        }),
      );
    },
  };
}
