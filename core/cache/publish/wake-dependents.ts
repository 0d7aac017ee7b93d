import { storeHash } from '../../nix/store-path.ts';
import { mapConcurrent } from '../../util/concurrency.ts';
import type { WaitingMarker } from '../layout.ts';
import { isPublished } from './paths.ts';
import type { PathReport } from './report.ts';
import type { PendingPaths } from './pending.ts';

/**
 * Wakes the paths that wait for the published ones among these paths. Call it after their receipts are
 * written: any number of paths may wait, and each attempt may be cut off.
 *
 * A marker is deleted once its path is woken, so a repeated attempt continues with the rest. A
 * wake-up that is lost afterwards leaves a pending record without a marker, which a sweep resumes.
 */
export type WakeDependents = (paths: readonly PathReport[]) => Promise<void>;

/** Wake-ups sent at once, before their markers are deleted together. */
const wakesAtOnce = 32;

export function createDependentWaker(options: {
  readonly pending: PendingPaths;
  /** Schedules the resumption of a path. */
  readonly wake: (waiting: WaitingMarker) => Promise<void>;
}): WakeDependents {
  const { pending, wake } = options;
  return async (paths) => {
    const published = paths.filter(isPublished).map(({ info }) => storeHash(info.path));
    if (published.length === 0) return;
    const waiting = await pending.findWaiting(published);
    for (let start = 0; start < waiting.length; start += wakesAtOnce) {
      const group = waiting.slice(start, start + wakesAtOnce);
      await mapConcurrent(group, wakesAtOnce, wake);
      await pending.unmarkWaiting(group);
    }
  };
}
