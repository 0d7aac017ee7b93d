import { NicheError, isNicheError } from '../../errors.ts';
import { maxAttempts } from '../../limits.ts';
import type { Bucket } from '../../storage/bucket.ts';
import { attemptPrefix } from '../layout.ts';
import type { BatchId } from '../layout.ts';
import { createBestEffort } from '../objects.ts';

/**
 * Counts crashes, so that a path that crashes its publisher is not retried forever.
 *
 * An attempt creates a marker when it begins and deletes it when it ends. A marker that is older than
 * the time limit of an attempt is from a crash. A batch has one marker; after a crash, its manifest and
 * each of its paths get their own.
 */
export interface CrashGuard {
  /** Runs `attempt` under a marker of the batch. */
  guardBatch<T>(id: BatchId, attempt: (batch: GuardedBatch) => Promise<T>): Promise<T>;
}

export interface GuardedBatch {
  /** Whether an earlier attempt crashed, so that the manifest and each path get markers of their own. */
  readonly isolatesParts: boolean;
  /**
   * Runs `attempt` on one part of the batch, under a marker of its own if the batch isolates parts.
   *
   * @param part `manifest`, the store hash of a path, or `look-up-` and a store hash
   * @param maxCrashes @default {@link maxAttempts}
   * @returns null, without running it, after `maxCrashes` crashes at this part
   */
  guardPart<T>(part: string, attempt: () => Promise<T>, maxCrashes?: number): Promise<T | null>;
  /**
   * Counts a failure to read a staged object. Failures within one time limit count as one, so that
   * events that are repeated quickly do not reject a batch.
   *
   * @returns the number of earlier failures, without those of the last time limit
   */
  countUnreadable(): Promise<number>;
  /** Deletes every object of the batch's attempts. Call it when the batch is finished. */
  clearMarkers(): Promise<void>;
}

export interface CrashGuardOptions {
  /** The longest time that one attempt may take, in milliseconds. */
  readonly timeLimitMs: number;
  readonly now: () => Date;
  readonly newId: () => string;
}

/** Returns the rejection of something that {@link GuardedBatch.guardPart} no longer runs. */
export function tooManyCrashes(subject: string): NicheError {
  return new NicheError(
    'failed',
    `publishing ${subject}: the publisher crashed ${maxAttempts} times at it`,
  );
}

export function createCrashGuard(bucket: Bucket, options: CrashGuardOptions): CrashGuard {
  const { timeLimitMs, now, newId } = options;

  /** Counts the markers below `prefix`: `old` ones are older than the time limit of an attempt. */
  async function countMarkers(prefix: string): Promise<{ old: number; recent: number }> {
    const latest = now().getTime() - timeLimitMs;
    const count = { old: 0, recent: 0 };
    for await (const { modified } of bucket.list(prefix)) {
      count[modified.getTime() < latest ? 'old' : 'recent'] += 1;
    }
    return count;
  }

  async function runUnderMarker<T>(key: string, attempt: () => Promise<T>): Promise<T> {
    await createBestEffort(bucket, key, '');
    let result: T;
    try {
      result = await attempt();
    } catch (error) {
      // An error that niche reports (storage or an upstream is down) is no crash. All others are.
      if (isNicheError(error)) await bucket.delete([key]);
      throw error;
    }
    await bucket.delete([key]);
    return result;
  }

  return {
    async guardBatch(id, attempt) {
      const prefix = attemptPrefix(id);
      const isolatesParts = (await countMarkers(`${prefix}batch.`)).old > 0;
      return runUnderMarker(`${prefix}batch.${newId()}`, () =>
        attempt({
          isolatesParts,
          async guardPart(part, attemptPart, maxCrashes = maxAttempts) {
            if (!isolatesParts) return attemptPart();
            const partPrefix = `${prefix}${part}.`;
            if ((await countMarkers(partPrefix)).old >= maxCrashes) return null;
            return runUnderMarker(`${partPrefix}${newId()}`, attemptPart);
          },
          async countUnreadable() {
            const unreadable = `${prefix}unreadable.`;
            const { old, recent } = await countMarkers(unreadable);
            if (recent === 0) await createBestEffort(bucket, `${unreadable}${newId()}`, '');
            return old;
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
