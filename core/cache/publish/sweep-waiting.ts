import { storeHash } from '../../nix/store-path.ts';
import type { Bucket, ObjectInfo } from '../../storage/bucket.ts';
import { parsePendingKey, parsePendingRealisationKey, pendingPrefix } from '../layout.ts';
import type { WaitingMarker } from '../layout.ts';
import { startAnywhere, takeTurns } from './fair-turns.ts';
import type { Publisher } from './publisher.ts';
import type { PublishResult } from './report.ts';

/**
 * The paths of one upload that a sweep resumes in vain, at most. Which ones is left to chance, so that
 * a lost wake-up among thousands of waiting paths is found in the end. Paths that a sweep publishes
 * do not count.
 */
const maxVainPerUpload = 100;

export interface SweepWaitingOptions {
  readonly private: Bucket;
  readonly publisher: Publisher;
  readonly hasExpired: (record: ObjectInfo) => boolean;
  /** Runs `work`, or returns null if it fails or must not start any more. */
  readonly tryTask: <T>(work: () => Promise<T>) => Promise<T | null>;
  readonly random: () => number;
}

/** A path with a pending record. */
interface ParkedPath {
  readonly waiting: WaitingMarker;
  readonly isMarked: boolean;
  readonly expired: boolean;
}

/**
 * Resumes the parked paths whose references are available now. Rejects those that still wait after
 * their time. Uploads take turns, and each may take only so much of a sweep in vain.
 *
 * @returns the results of the paths that no longer wait
 */
export async function sweepWaiting(options: SweepWaitingOptions): Promise<PublishResult[]> {
  const { publisher, tryTask, random } = options;
  const parked = Map.groupBy(await listParked(options), ({ waiting }) => waiting.upload);
  const shares = [...parked.values()].map((paths) => createShare(startAnywhere(paths, random)));
  const published: PublishResult[] = [];
  for (const { path, share } of takeTurns(startAnywhere(shares, random))) {
    const { waiting, isMarked, expired } = path;
    const result = await tryTask(async () => {
      const resumed = await publisher.resumePath(waiting, { isMarked });
      if (!expired || resumed?.outcome.status !== 'waiting') return resumed;
      return publisher.expirePath(waiting, resumed.outcome);
    });
    if (result && result.outcome.status !== 'waiting') published.push(result);
    else share.countVain(result?.outcome.missing ?? []);
  }
  return published;
}

/** The turns of one upload. */
interface Share extends Iterable<{ readonly path: ParkedPath; readonly share: Share }> {
  /** Counts a path that still waits for these references, or that could not be resumed. */
  countVain(missing: readonly string[]): void;
}

/** Yields the paths of an upload until too many of them were in vain. */
function createShare(paths: readonly ParkedPath[]): Share {
  const missing = new Set<string>();
  let vain = 0;
  const share: Share = {
    countVain(references) {
      vain += 1;
      for (const reference of references) missing.add(storeHash(reference));
    },
    *[Symbol.iterator]() {
      for (const path of paths) {
        if (vain >= maxVainPerUpload) return;
        // It would wait on: this sweep has just looked for its reference.
        const isKnown = path.isMarked && missing.has(path.waiting.reference);
        if (path.expired || !isKnown) yield { path, share };
      }
    },
  };
  return share;
}

/** Lists the parked paths, and deletes markers without a record. */
async function listParked({
  private: bucket,
  publisher: { pending },
  hasExpired,
}: SweepWaitingOptions): Promise<ParkedPath[]> {
  const markers = new Map<string, WaitingMarker>();
  for await (const waiting of pending.listWaiting()) {
    markers.set(`${waiting.storeHash}/${waiting.upload}`, waiting);
  }
  const parked: ParkedPath[] = [];
  for await (const object of bucket.list(pendingPrefix)) {
    const record = parsePendingKey(object.key) ?? parsePendingRealisationKey(object.key);
    if (!record) continue;
    const id = `${record.storeHash}/${record.upload}`;
    // Its writer crashed before the marker, or its wake-up was lost. Any reference will do then.
    const waiting = markers.get(id) ?? { ...record, reference: record.storeHash };
    parked.push({ waiting, isMarked: markers.delete(id), expired: hasExpired(object) });
  }
  // The markers left are of paths that no longer wait.
  await pending.unmarkWaiting([...markers.values()]);
  return parked;
}
