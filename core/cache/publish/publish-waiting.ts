import { isRejection } from '../../errors.ts';
import { maxNamedMissing } from '../../limits.ts';
import type { PathInfo } from '../../nix/path-info.ts';
import { realisationName } from '../../nix/realisation.ts';
import type { WaitingMarker } from '../layout.ts';
import { isFinal } from '../receipts/receipts.ts';
import type { Outcome } from '../receipts/receipts.ts';
import type { PublishContext } from './context.ts';
import type { PendingRealisations } from './pending-realisations.ts';
import type { PendingPaths, PendingRecord, ReadRecord } from './pending.ts';
import type { PathPublisher } from './publish-paths.ts';
import type { RealisationPublisher } from './realisations.ts';
import { resultOf } from './report.ts';
import type { PublishResult, Reporter } from './report.ts';
import type { WakeDependents } from './wake-dependents.ts';

/** Continues with paths that wait for their references. */
export interface WaitingPublisher {
  /**
   * Continues with a waiting path.
   *
   * @param options.isMarked whether its marker is stored, as a sweep has just listed it. A wake-up
   *   deletes it. @default false
   * @returns null when it no longer waits
   */
  resumePath(
    waiting: WaitingMarker,
    options?: { readonly isMarked?: boolean },
  ): Promise<PublishResult | null>;
  /**
   * Rejects a path that has waited too long.
   *
   * @param outcome what {@link WaitingPublisher.resumePath} has just returned
   * @returns null when it no longer waits
   */
  expirePath(waiting: WaitingMarker, outcome: Outcome): Promise<PublishResult | null>;
}

export interface WaitingPublisherOptions {
  readonly pending: PendingPaths;
  readonly pendingRealisations: PendingRealisations;
  readonly paths: PathPublisher;
  readonly realisations: RealisationPublisher;
  readonly reporter: Reporter;
  readonly wakeDependents: WakeDependents;
  readonly openContext: () => Promise<PublishContext>;
}

export function createWaitingPublisher(options: WaitingPublisherOptions): WaitingPublisher {
  const { pending, paths, reporter, wakeDependents, openContext } = options;
  const { pendingRealisations, realisations } = options;

  /**
   * Runs `work` on the record of a waiting path, if there is one. Rejects the path if its record is
   * damaged: it would fail in the same way for ever.
   */
  async function withRecord(
    waiting: WaitingMarker,
    work: (record: ReadRecord) => Promise<PublishResult>,
  ): Promise<PublishResult | null> {
    let record: ReadRecord | null;
    try {
      record = await pending.readRecord(waiting.storeHash, waiting.upload);
    } catch (error) {
      if (!isRejection(error)) throw error;
      const result = await reporter.reportRejection(waiting.upload, waiting.storeHash, error);
      await stopWaiting(waiting);
      return result;
    }
    return record && work(record);
  }

  async function stopWaiting(waiting: WaitingMarker): Promise<void> {
    await pending.deleteRecord(waiting.storeHash, waiting.upload);
    await pending.unmarkWaiting([waiting]);
  }

  async function resume(
    { reference, upload }: WaitingMarker,
    record: ReadRecord,
    isMarked: boolean,
  ): Promise<PublishResult> {
    const finished = await paths.resumeParked(await openContext(), record, { reference, isMarked });
    const { status, code } = finished.outcome;
    // Its receipt says so already. A sweep must not write it again for each path that waits.
    const waitsOn = isMarked && status === 'waiting' && code === undefined;
    const result = waitsOn
      ? resultOf(upload, finished)
      : await reporter.reportPath(upload, finished);
    // The pending record last: it leads a repeated attempt to the paths that are not woken yet.
    await wakeDependents([finished]);
    await finished.unpark();
    return result;
  }

  async function expire(
    waiting: WaitingMarker,
    { info, since }: PendingRecord,
    { code, message = '' }: Outcome,
  ): Promise<PublishResult> {
    const outcome: Outcome =
      code === 'upstream-unavailable'
        ? {
            status: 'rejected',
            // As for a damaged narinfo in the cache: nobody knows for which contents it stands.
            code: 'upstream-conflict',
            message: `${info.path} has waited since ${since}, too long for this cache: ${message}`,
          }
        : {
            status: 'rejected',
            code: 'missing-references',
            message: `${info.path} has waited for its references since ${since}, too long for this cache`,
            missing: await findMissing(info),
          };
    const result = await reporter.reportPath(waiting.upload, { info, outcome });
    await stopWaiting(waiting);
    return result;
  }

  async function resumeRealisation(
    waiting: WaitingMarker,
    isMarked: boolean,
  ): Promise<PublishResult | null> {
    const record = await pendingRealisations.readRecord(waiting);
    if (!record) return null;
    const { realisation, upload, origin } = record;
    const finished = await realisations.resumeRealisation(
      await openContext(),
      { realisation, upload, origin },
      isMarked,
    );
    const waitsOn = isMarked && !isFinal(finished.outcome.status);
    const result = waitsOn
      ? resultOf(upload, finished)
      : await reporter.reportPath(upload, finished);
    await finished.unpark();
    return result;
  }

  async function expireRealisation(waiting: WaitingMarker): Promise<PublishResult | null> {
    const record = await pendingRealisations.readRecord(waiting);
    if (!record) return null;
    const { realisation, since } = record;
    const name = realisationName(realisation);
    const result = await reporter.reportPath(waiting.upload, {
      info: { path: name, narSize: 0 },
      outcome: {
        status: 'rejected',
        code: 'missing-references',
        message: `${name} has waited for its output since ${since}, too long for this cache`,
        missing: [realisation.outPath],
      },
    });
    await pendingRealisations.forget(record);
    return result;
  }

  /** Returns the missing references, as many as a receipt lists. */
  async function findMissing({ path, references }: PathInfo): Promise<readonly string[]> {
    const { presence } = await openContext();
    const others = references.filter((reference) => reference !== path);
    return (await presence.findReferences(others, maxNamedMissing)).missing;
  }

  return {
    async resumePath(waiting, { isMarked = false } = {}) {
      const result =
        (await withRecord(waiting, (record) => resume(waiting, record, isMarked))) ??
        (await resumeRealisation(waiting, isMarked));
      if (!result) await pending.unmarkWaiting([waiting]);
      return result;
    },
    async expirePath(waiting, outcome) {
      const expired = await withRecord(waiting, (record) => expire(waiting, record, outcome));
      return expired ?? expireRealisation(waiting);
    },
  };
}
