import { randomBytes } from 'node:crypto';

import { NicheError, isRejection } from '../../errors.ts';
import type { RejectionCode } from '../../errors.ts';
import { realisationName } from '../../nix/realisation.ts';
import { storeHash } from '../../nix/store-path.ts';
import { mapConcurrent } from '../../util/concurrency.ts';
import type { ReportedOrigin } from '../audit.ts';
import { manifestKey } from '../layout.ts';
import type { BatchId, CacheBuckets } from '../layout.ts';
import { openStagedBatch, removeStagedBatch } from './batch.ts';
import type { StagedBatch } from './batch.ts';
import type { PublishContext } from './context.ts';
import { createCrashGuard, tooManyCrashes } from './crash-guard.ts';
import type { GuardedBatch } from './crash-guard.ts';
import { listFinished, markFinished } from './finished-paths.ts';
import { createInFlightBatches } from './in-flight.ts';
import type { InFlightBatch } from './in-flight.ts';
import type { FinishedPath, StagedPath } from './paths.ts';
import type { PathPublisher } from './publish-paths.ts';
import type { RealisationPublisher } from './realisations.ts';
import type { PublishResult, Reporter } from './report.ts';
import { createTimeBudget } from './time-budget.ts';
import type { TimeBudget } from './time-budget.ts';
import type { WakeDependents } from './wake-dependents.ts';

/** Publishes a staged batch, see `Publisher.publishBatch`. */
export type PublishBatch = (id: BatchId, call?: PublishCall) => Promise<PublishResult[]>;

/** The circumstances of one call of {@link PublishBatch}. */
export interface PublishCall {
  /** How the publisher learned of the batch, for the audit log. */
  readonly origin?: ReportedOrigin | undefined;
  /** Returns the time until the process may be ended, in milliseconds. @default `timeLimitMs`, from now */
  readonly timeLeftMs?: (() => number) | undefined;
}

export interface BatchPublisherOptions extends Pick<CacheBuckets, 'staging' | 'private'> {
  readonly config: { readonly storeDir: string };
  readonly paths: PathPublisher;
  readonly realisations: RealisationPublisher;
  readonly reporter: Reporter;
  readonly wakeDependents: WakeDependents;
  readonly openContext: () => Promise<PublishContext>;
  /** The longest that one call may take, in milliseconds. */
  readonly timeLimitMs: number;
  /** The expected publishing speed, in NAR bytes a second. */
  readonly bytesPerSecond: number;
  readonly now: () => Date;
}

/** Everything that publishing one opened batch needs. */
interface BatchRun {
  readonly batch: StagedBatch;
  readonly budget: TimeBudget;
  readonly guard: GuardedBatch;
  readonly inFlight: InFlightBatch;
}

/** Crashes at the last look for a path. Each costs one of the few deliveries that a queue makes. */
const maxLookUpCrashes = 3;

/** Pending records deleted at once. */
const unparksAtOnce = 64;

export function createBatchPublisher(options: BatchPublisherOptions): PublishBatch {
  const { staging, private: privateRoot, config, paths, reporter, wakeDependents } = options;
  const { realisations, timeLimitMs, bytesPerSecond, now } = options;
  const newId = (): string => randomBytes(8).toString('hex');
  const crashGuard = createCrashGuard(privateRoot, { timeLimitMs, now, newId });
  const inFlightBatches = createInFlightBatches();

  async function publishBatch(id: BatchId, call: PublishCall = {}): Promise<PublishResult[]> {
    const { origin = null, timeLeftMs } = call;
    const budget = createTimeBudget({ timeLimitMs, bytesPerSecond, timeLeftMs });
    return crashGuard.guardBatch(id, async (guard) => {
      const batch = await openGuarded(guard, id, origin).catch((error: unknown) => {
        if (isRejection(error)) return error;
        throw error;
      });
      if (batch === null) return [];
      if (batch instanceof NicheError) return [await rejectBatch(guard, id, batch)];
      if (batch.realisations.length > 0) return publishRealisations(batch, guard);
      const claimed = batch.paths.map(({ claim }) => claim.path);
      return inFlightBatches.runBatch(claimed, (inFlight) =>
        publishGroups({ batch, budget, guard, inFlight }),
      );
    });
  }

  /**
   * Opens the batch under the guard, because an uploader wrote the manifest.
   *
   * @throws NicheError `failed` after too many crashes at the manifest; those of {@link openStagedBatch}
   */
  async function openGuarded(
    guard: GuardedBatch,
    id: BatchId,
    origin: ReportedOrigin | null,
  ): Promise<StagedBatch | null> {
    const { storeDir } = config;
    // Wrapped, because a batch that is gone opens as null too.
    const opened = await guard.guardPart('manifest', async () => ({
      batch: await openStagedBatch(staging, id, {
        storeDir,
        origin,
        countUnreadable: () => guard.countUnreadable(),
      }),
    }));
    if (opened) return opened.batch;
    throw tooManyCrashes(`the manifest ${manifestKey(id)}`);
  }

  /** Reports a batch whose manifest is refused, and removes it. */
  async function rejectBatch(
    guard: GuardedBatch,
    id: BatchId,
    error: NicheError & { code: RejectionCode },
  ): Promise<PublishResult> {
    const result = await reporter.reportRejection(id.upload, String(id.batch), error);
    await removeStagedBatch(staging, id);
    await guard.clearMarkers();
    return result;
  }

  /** Publishes a batch of realisations, and removes it. */
  async function publishRealisations(
    batch: StagedBatch,
    guard: GuardedBatch,
  ): Promise<PublishResult[]> {
    const outputs = batch.realisations.map(({ realisation }) => realisation.outPath);
    const names = batch.realisations.map(({ realisation }) => realisationName(realisation));
    return inFlightBatches.runBatch(names, async (inFlight) => {
      // Small batches of outputs come first. Parking a realisation costs some ten requests.
      await inFlight.waitForEarlier(outputs);
      const context = { ...(await options.openContext()), inFlight };
      const finished = await guard.guardPart('realisations', () =>
        realisations.publishRealisations(context, batch.realisations),
      );
      if (!finished) {
        const error = tooManyCrashes('the realisations of the batch');
        return [await rejectBatch(guard, batch.id, error as NicheError & { code: RejectionCode })];
      }
      const results = await reporter.reportPaths(batch.id, finished);
      await mapConcurrent(finished, unparksAtOnce, ({ unpark }) => unpark());
      await batch.remove();
      await guard.clearMarkers();
      return results;
    });
  }

  /** Publishes the batch group by group, and removes it once all its paths are reported. */
  async function publishGroups(run: BatchRun): Promise<PublishResult[]> {
    const { batch, budget, guard, inFlight } = run;
    const isSplit = !budget.suffices(totalNarSize(batch.paths));
    const due = isSplit ? await withoutFinished(batch) : batch.paths;
    const [opened, groups] = await Promise.all([
      options.openContext(),
      // After a crash each path is a group of its own: the next crash loses no other path's work.
      guard.isolatesParts ? due.map((path) => [path]) : batch.groupPaths(due),
    ]);
    const context = { ...opened, inFlight };
    const results: PublishResult[] = [];
    let handled = 0;
    for (const group of groups) {
      const affordable = budget.takeAffordable(group);
      const reported = await publishGroup(run, context, affordable.paths);
      results.push(...reported);
      if (isSplit) await markFinished(privateRoot, batch.id, reported.flatMap(pathOf));
      handled += affordable.paths.length;
      if (affordable.stopped) throw affordable.stopped;
    }
    // Another publisher handles the batch too, and removes it when it has reported the other paths.
    if (results.length < handled) return results;
    await batch.remove();
    await guard.clearMarkers();
    return results;
  }

  /** Publishes and reports a group of the batch's paths, and then wakes the paths that wait for it. */
  async function publishGroup(
    { batch, guard }: BatchRun,
    context: PublishContext,
    group: readonly StagedPath[],
  ): Promise<PublishResult[]> {
    if (group.length === 0) return [];
    const finished = await withoutRemoved(batch, await publishGuarded(guard, context, group));
    const results = await reporter.reportPaths(batch.id, finished);
    await mapConcurrent(finished, unparksAtOnce, ({ unpark }) => unpark());
    await wakeDependents(finished);
    return results;
  }

  /** Publishes a group. After a crash, gives up a path at which too many publishers have crashed. */
  async function publishGuarded(
    guard: GuardedBatch,
    context: PublishContext,
    group: readonly StagedPath[],
  ): Promise<FinishedPath[]> {
    const [first] = group;
    if (!guard.isolatesParts || !first) return paths.publishPaths(context, group);
    const hash = storeHash(first.claim.path);
    const finished = await guard.guardPart(hash, () => paths.publishPaths(context, group));
    if (finished) return finished;
    // The look-up may be what crashes the publishers.
    const giveUp = (): Promise<FinishedPath> => paths.giveUpPath(context, first);
    const found = await guard.guardPart(`look-up-${hash}`, giveUp, maxLookUpCrashes);
    return [found ?? paths.giveUpUnseen(first)];
  }

  /**
   * Returns the paths that no earlier call finished, of a batch that is too much for one call. Otherwise
   * each call would start with the finished paths, and a path that needs nearly the whole time limit
   * would never be reached.
   */
  async function withoutFinished({ id, paths: all }: StagedBatch): Promise<readonly StagedPath[]> {
    const finished = await listFinished(privateRoot, id);
    return all.filter(({ claim }) => !finished.has(storeHash(claim.path)));
  }

  return publishBatch;
}

function totalNarSize(paths: readonly StagedPath[]): number {
  return paths.reduce((sum, { claim }) => sum + claim.narSize, 0);
}

function pathOf({ path }: PublishResult): string[] {
  return path === null ? [] : [path];
}

/**
 * Leaves out the paths whose NARs are gone because another publisher of the batch has removed it.
 * That publisher has reported them.
 */
async function withoutRemoved(
  batch: StagedBatch,
  finished: FinishedPath[],
): Promise<FinishedPath[]> {
  const lacksNar = ({ outcome }: FinishedPath): boolean => outcome.code === 'missing-nar';
  // A batch is removed manifest first.
  if (!finished.some(lacksNar) || (await batch.isStaged())) return finished;
  return finished.filter((path) => !lacksNar(path));
}
