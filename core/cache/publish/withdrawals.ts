import type { PathInfo } from '../../nix/path-info.ts';
import { storeHash } from '../../nix/store-path.ts';
import type { ObjectReader } from '../../storage/bucket.ts';
import { mapConcurrent } from '../../util/concurrency.ts';
import { narInfoKey } from '../layout.ts';
import { rejectedOutcome } from '../receipts/receipts.ts';
import { blockedError } from './conflicts.ts';
import type { PublishContext } from './context.ts';
import { isPublished } from './paths.ts';
import type { FinishedPath } from './paths.ts';

/**
 * Rejects the finished paths that were blocked while they were published, and has their narinfos
 * deleted. An administrator deletes the narinfo once, perhaps before a publisher creates it. So a
 * publisher looks again after it has created a narinfo: either it sees the record of the
 * administrator here, or the administrator saw the narinfo.
 */
export type RejectBlocked = (
  context: PublishContext,
  finished: readonly FinishedPath[],
) => Promise<FinishedPath[]>;

const lookupsAtOnce = 16;

export function createBlockedCheck(options: {
  readonly public: ObjectReader;
  /** Schedules the deletion of a blocked path's narinfo, by an identity that may delete it. */
  readonly withdraw: (storeHash: string) => Promise<void>;
}): RejectBlocked {
  const { public: cache, withdraw } = options;

  async function isVisible({ path }: PathInfo): Promise<boolean> {
    return (await cache.head(narInfoKey(storeHash(path)))) !== null;
  }

  /** Whether the path is blocked, or was blocked and unblocked since this publisher found it. */
  async function isWithdrawn({ blocked }: PublishContext, info: PathInfo): Promise<boolean> {
    if (blocked.refuses(info)) return true;
    return blocked.wasBlocked(storeHash(info.path)) && !(await isVisible(info));
  }

  return async (context, finished) => {
    if (finished.some(isPublished)) await context.blocked.refresh();
    return mapConcurrent(finished, lookupsAtOnce, async (one) => {
      const { info, outcome } = one;
      if (isPublished(one) && (await isWithdrawn(context, info))) {
        await withdraw(storeHash(info.path));
        return { ...one, outcome: rejectedOutcome(blockedError(info, context.blocked)) };
      }
      // An earlier attempt may have crashed after it created the narinfo.
      if (outcome.code === 'blocked' && (await isVisible(info))) {
        await withdraw(storeHash(info.path));
      }
      return one;
    });
  };
}
