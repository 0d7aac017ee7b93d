import { mapConcurrent } from '../../util/concurrency.ts';
import type { PathInfo } from '../../nix/path-info.ts';
import { storeHash } from '../../nix/store-path.ts';
import { createAttachmentStore } from './attachments.ts';
import type { Attachments } from './attachments.ts';
import { createExamination } from './ingest.ts';
import type { Examined, ExaminationOptions, StagedPath } from './ingest.ts';
import type { WaitingMarker } from '../layout.ts';
import type { Candidate, PendingPaths, PendingRecord } from './pending.ts';
import { createNarInfoPublisher, nothingAuthorized } from './narinfos.ts';
import type { Authorized } from './narinfos.ts';
import { catchRejection, isFinal } from '../receipts/receipts.ts';
import type { Outcome } from '../receipts/receipts.ts';
import { createSettlement } from './conflicts.ts';
import type { PublishContext } from './conflicts.ts';

/** What publishing paths works on. */
export interface PathPublisherOptions extends ExaminationOptions {
  readonly pending: PendingPaths;
  /** Tells whoever resumes paths that the reference of a waiting one is published. */
  readonly wake: (waiting: WaitingMarker) => Promise<void>;
  readonly now: () => Date;
}

/** What became of a path. */
export interface Concluded {
  readonly outcome: Outcome;
  /**
   * Forgets that the path waited, where it did and no longer does. To be called once the receipt is
   * written: until then, nothing but the pending record would bring one after a crash.
   */
  readonly unpark: () => Promise<void>;
}

/**
 * Takes paths from their claims to their narinfos. Every method may be run again, after a crash at
 * any point or at once with itself: what is done already is found done. They throw what storage,
 * upstreams and signers throw.
 *
 * Paths that come together go through each step together, since what serves all of them then costs
 * one request: the audit record, and the looks for what is blocked and for who waits.
 */
export interface PathPublisher {
  /**
   * @param batch references before what refers to them: one that comes later is missing like any
   *   other
   * @returns what became of each, in their order
   */
  publish(run: PublishContext, batch: readonly StagedPath[]): Promise<Concluded[]>;
  /** Goes on with a path that waited for the store hash `reference`. */
  resume(run: PublishContext, record: PendingRecord, reference: string): Promise<Concluded>;
}

/** Paths worked on at once: what each does most is wait for storage. */
const pathsAtOnce = 64;

export function createPathPublisher(options: PathPublisherOptions): PathPublisher {
  const { pending, wake, now } = options;
  const attachmentStore = createAttachmentStore(options);
  const settlement = createSettlement(options);
  const examine = createExamination(options, settlement, attachmentStore);
  const narInfos = createNarInfoPublisher(options, settlement);

  /**
   * Publishes the candidate once its references are present, else parks it. A reference may be
   * published while the candidate is being parked, unseen by either side; so everything is asked
   * again after the marker is written, until the answer does not change.
   */
  async function finish(
    run: PublishContext,
    candidate: Candidate,
    attachments: Attachments,
    parkedFor: string | null,
    authorized: Authorized,
  ): Promise<Concluded> {
    const { info, upload } = candidate;
    const hash = storeHash(info.path);
    const references = info.references.filter((reference) => reference !== info.path);
    let reference = parkedFor;
    const warnings = warningsOf(candidate);

    async function wait(next: string): Promise<void> {
      if (reference === null) {
        await pending.park(candidate, attachments, next, now().toISOString());
      } else {
        await pending.markWaiting({ reference: next, storeHash: hash, upload });
        await pending.unmarkWaiting({ reference, storeHash: hash, upload });
      }
      reference = next;
    }

    async function unpark(): Promise<void> {
      if (reference === null) return;
      await pending.deleteRecord(hash, upload);
      await pending.unmarkWaiting({ reference, storeHash: hash, upload });
    }

    async function untilPresent(): Promise<'exists' | 'absent' | Outcome> {
      // A resumed candidate has not been settled in this run; a fresh one just was.
      let settled = reference === null ? null : await settlement.settle(run, info);
      while (settled === null) {
        const missing = await run.presence.findMissing(references);
        const first = missing[0];
        if (first === undefined) return 'absent';
        const next = storeHash(first);
        if (next === reference) return { status: 'waiting', missing, ...warnings };
        await wait(next);
        settled = await settlement.settle(run, info);
      }
      return settled;
    }

    const outcome = await catchRejection<Outcome>(async () => {
      const state = await untilPresent();
      if (typeof state === 'object') return state;
      const status = state === 'exists' ? state : await narInfos.one(run, candidate, authorized);
      return { status, ...warnings };
    });
    return { outcome, unpark: isFinal(outcome.status) ? unpark : neverParked };
  }

  /** Creates narinfos, each after those of the batch that it refers to. */
  async function finishAll(
    run: PublishContext,
    examined: readonly (Outcome | Examined)[],
    authorized: Authorized,
  ): Promise<Concluded[]> {
    const begun = new Map<string, Promise<Concluded>>();
    return mapConcurrent(examined, pathsAtOnce, async (each) => {
      if ('status' in each) return { outcome: each, unpark: neverParked };
      const { candidate, attachments } = each;
      const { path, references } = candidate.info;
      const before = references.flatMap((reference) => begun.get(reference) ?? []);
      const work = Promise.all(before).then(() =>
        finish(run, candidate, attachments, null, authorized),
      );
      begun.set(path, work);
      return work;
    });
  }

  /** Wakes who waits for these paths, which are published. */
  async function wakeFor(claims: readonly PathInfo[]): Promise<void> {
    if (claims.length === 0) return;
    const hashes = claims.map(({ path }) => storeHash(path));
    for (const waiting of await pending.findWaiting(hashes)) await wake(waiting);
  }

  return {
    async publish(run, batch) {
      const examined = await mapConcurrent(batch, pathsAtOnce, (staged) =>
        catchRejection(() => examine(run, staged)),
      );
      await run.inFlight?.waitForEarlier(batch.flatMap(({ claim }) => claim.references));
      const authorized = await narInfos.together(
        run,
        examined.flatMap((each) => ('candidate' in each ? [each.candidate] : [])),
      );
      const concluded = await finishAll(run, examined, authorized);
      run.inFlight?.markDecided();
      const published = batch.filter((_, index) => isPublished(concluded[index]));
      await mapConcurrent([...batch.entries()], pathsAtOnce, async ([index, staged]) => {
        if (!isPublished(concluded[index])) return;
        const { claim, readLog } = staged;
        const found = examined[index];
        await attachmentStore.write(
          claim,
          found && 'candidate' in found
            ? found.attachments
            : await attachmentStore.lacking(claim, await readLog()),
        );
      });
      await wakeFor(published.map(({ claim }) => claim));
      return concluded;
    },

    async resume(run, { info, nar, unclaimed, upload, origin = null }, reference) {
      const attachments = await pending.readAttachments(storeHash(info.path), upload);
      const candidate = { info, nar, unclaimed, upload, origin };
      const concluded = await finish(run, candidate, attachments, reference, nothingAuthorized);
      if (isPublished(concluded)) {
        await attachmentStore.write(info, attachments);
        await wakeFor([info]);
      }
      return concluded;
    },
  };
}

const neverParked = (): Promise<void> => Promise.resolve();

function isPublished(concluded: Concluded | undefined): boolean {
  const status = concluded?.outcome.status;
  return status === 'published' || status === 'exists';
}

function warningsOf({ unclaimed }: Candidate): Pick<Outcome, 'warnings'> {
  if (unclaimed.count === 0) return {};
  const more = unclaimed.count > unclaimed.first.length ? ', …' : '';
  return {
    warnings: [
      `the contents mention ${unclaimed.count} store paths that are not references: ${unclaimed.first.join(', ')}${more}`,
    ],
  };
}
