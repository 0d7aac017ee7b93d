import { storeHash } from '../../nix/store-path.ts';
import { mapConcurrent } from '../../util/concurrency.ts';
import { catchRejection } from '../receipts/receipts.ts';
import type { Outcome } from '../receipts/receipts.ts';
import { createAttachmentStore } from './attachments.ts';
import { createConflictChecker } from './conflicts.ts';
import type { PublishContext } from './context.ts';
import { tooManyCrashes } from './crash-guard.ts';
import { createIngest } from './ingest.ts';
import type { IngestOptions } from './ingest.ts';
import { createNarInfoPublisher, nothingPrepared } from './narinfos.ts';
import type { PreparedNarInfos } from './narinfos.ts';
import { createUnparked, openParked } from './parked.ts';
import { isPublished, nothingToUnpark } from './paths.ts';
import type { FinishedPath, IngestedPath, StagedPath } from './paths.ts';
import type { PendingPaths, ReadRecord } from './pending.ts';
import { createParkedCheck } from './check-parked.ts';
import { createCandidatePublisher } from './publish-candidate.ts';
import { createBlockedCheck } from './withdrawals.ts';

export interface PathPublisherOptions extends IngestOptions {
  readonly pending: PendingPaths;
  /** Schedules the deletion of a blocked path's narinfo, by an identity that may delete it. */
  readonly withdraw: (storeHash: string) => Promise<void>;
  readonly now: () => Date;
}

/**
 * Takes paths from their claims to their narinfos. Every method can run again, after a crash at any
 * point or concurrently: it finds finished work finished. The methods throw the errors of storage,
 * upstreams and signers.
 */
export interface PathPublisher {
  /**
   * Publishes paths together, which shares requests among them: one audit record, one listing of
   * blocked paths, one of waiting paths.
   *
   * @param paths each after its references: a reference that comes later counts as missing
   * @returns the finished paths, in the same order
   */
  publishPaths(context: PublishContext, paths: readonly StagedPath[]): Promise<FinishedPath[]>;
  /**
   * Continues with a parked path.
   *
   * @param stored the store hash that it waits for, and whether that marker is stored
   */
  resumeParked(
    context: PublishContext,
    record: ReadRecord,
    stored: { readonly reference: string; readonly isMarked: boolean },
  ): Promise<FinishedPath>;
  /**
   * Ends a path at which too many publishers have crashed, without reading its NAR.
   *
   * @returns `exists` when one of them has published it, else its rejection
   */
  giveUpPath(context: PublishContext, path: StagedPath): Promise<FinishedPath>;
  /** Rejects such a path without a look at the cache, at which publishers have crashed too. */
  giveUpUnseen(path: StagedPath): FinishedPath;
}

/** A staged path, and the candidate made from it or the outcome that ends it. */
interface IngestResult {
  readonly staged: StagedPath;
  readonly ingested: Outcome | IngestedPath;
}

/** Paths worked on at once. They mostly wait for storage. */
const pathsAtOnce = 64;

export function createPathPublisher(options: PathPublisherOptions): PathPublisher {
  const { pending, now } = options;
  const attachmentStore = createAttachmentStore(options);
  const conflicts = createConflictChecker(options);
  const ingestPath = createIngest(options, conflicts, attachmentStore);
  const narInfos = createNarInfoPublisher(options, conflicts);
  const rejectBlocked = createBlockedCheck(options);
  const publishCandidate = createCandidatePublisher({ conflicts, narInfos });
  const checkParked = createParkedCheck(options);

  async function ingest(context: PublishContext, staged: StagedPath): Promise<IngestResult> {
    return { staged, ingested: await catchRejection(() => ingestPath(context, staged)) };
  }

  /** Publishes or parks the ingested paths, each after its references among them. */
  async function finishAll(
    context: PublishContext,
    results: readonly IngestResult[],
    prepared: PreparedNarInfos,
  ): Promise<FinishedPath[]> {
    const started = new Map<string, Promise<FinishedPath>>();
    return mapConcurrent(results, pathsAtOnce, async ({ staged, ingested }) => {
      if (isOutcome(ingested)) {
        return { info: staged.claim, outcome: ingested, unpark: nothingToUnpark };
      }
      const { path, references } = ingested.candidate.info;
      const before = references.flatMap((reference) => started.get(reference) ?? []);
      const work = Promise.all(before).then(() =>
        publishCandidate(context, {
          ...ingested,
          parked: createUnparked(pending, ingested, now),
          prepared,
        }),
      );
      started.set(path, work);
      return work;
    });
  }

  /** Writes the listing and the log of a published path. */
  async function attach(
    { staged: { claim, readLog }, ingested }: IngestResult,
    finished: FinishedPath,
  ): Promise<void> {
    const attachments = isOutcome(ingested)
      ? await attachmentStore.findMissing(claim, await readLog())
      : ingested.attachments;
    await attachmentStore.writeAttachments(finished, attachments);
  }

  function endPath({ claim: info, upload }: StagedPath, outcome: Outcome): FinishedPath {
    // A crashed attempt may have parked it. A rejected path must not be published later.
    const unpark = (): Promise<void> => pending.deleteRecord(storeHash(info.path), upload);
    return { info, outcome, unpark };
  }

  function giveUpUnseen(path: StagedPath): FinishedPath {
    const { message } = tooManyCrashes(path.claim.path);
    return endPath(path, { status: 'rejected', code: 'failed', message });
  }

  return {
    async publishPaths(context, paths) {
      const results = await mapConcurrent(paths, pathsAtOnce, (path) => ingest(context, path));
      await context.inFlight?.waitForEarlier(paths.flatMap(({ claim }) => claim.references));
      const candidates = results.flatMap(({ ingested }) =>
        isOutcome(ingested) || ingested.upstream.kind === 'undecided' ? [] : [ingested.candidate],
      );
      const prepared = await narInfos.prepareNarInfos(context, candidates);
      const finished = await finishAll(context, results, prepared);
      context.inFlight?.markDecided();
      await mapConcurrent(finished, pathsAtOnce, async (path, index) => {
        const result = results[index];
        if (result && isPublished(path)) await attach(result, path);
      });
      // After the listings too: an administrator who blocks a path deletes both.
      return rejectBlocked(context, finished);
    },

    async resumeParked(context, record, stored) {
      const { info, nar, unclaimed, upload, origin } = record;
      const candidate = { info, nar, unclaimed, upload, origin };
      const parked = openParked(pending, candidate, stored);
      const finished = await publishCandidate(context, {
        candidate,
        parked,
        upstream: null,
        prepared: nothingPrepared,
        confirm: () => checkParked(record),
      });
      if (isPublished(finished)) {
        const attachments = await pending.readAttachments(storeHash(info.path), upload);
        await attachmentStore.writeAttachments(finished, attachments);
      }
      const [kept = finished] = await rejectBlocked(context, [finished]);
      return kept;
    },

    async giveUpPath(context, path) {
      const outcome = await catchRejection(async (): Promise<Outcome | null> => {
        const status = await conflicts.checkCache(context, path.claim);
        return status && { status };
      });
      return outcome ? endPath(path, outcome) : giveUpUnseen(path);
    },

    giveUpUnseen,
  };
}

function isOutcome(ingested: Outcome | IngestedPath): ingested is Outcome {
  return 'status' in ingested;
}
