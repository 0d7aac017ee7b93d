import type { PathInfo } from '../../nix/path-info.ts';
import { storeHash } from '../../nix/store-path.ts';
import { mapConcurrent } from '../../util/concurrency.ts';
import type { WaitingMarker } from '../layout.ts';
import { isFinal, catchRejection } from '../receipts/receipts.ts';
import type { Outcome } from '../receipts/receipts.ts';
import { createAttachmentStore } from './attachments.ts';
import { createConflictChecker } from './conflicts.ts';
import type { PublishContext } from './context.ts';
import { createIngest } from './ingest.ts';
import type { IngestOptions, IngestedPath, StagedPath } from './ingest.ts';
import { createNarInfoPublisher, nothingPrepared } from './narinfos.ts';
import type { PreparedNarInfos } from './narinfos.ts';
import { createParked } from './parked.ts';
import type { Parked } from './parked.ts';
import type { Candidate, PendingPaths, PendingRecord } from './pending.ts';
import type { PathReport } from './report.ts';

export interface PathPublisherOptions extends IngestOptions {
  readonly pending: PendingPaths;
  /** Schedules the resumption of a path whose reference was published. */
  readonly wake: (waiting: WaitingMarker) => Promise<void>;
  readonly now: () => Date;
}

/** A path that got as far as it can for now. */
export interface FinishedPath extends PathReport {
  /**
   * Deletes the pending record of a path that no longer waits. Call it after the receipt is written:
   * until then, only the pending record leads to a receipt after a crash.
   */
  readonly unpark: () => Promise<void>;
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
  /** Continues with a parked path that waits for the store hash `reference`. */
  resumeParked(
    context: PublishContext,
    record: PendingRecord,
    reference: string,
  ): Promise<FinishedPath>;
}

/** The next step for a candidate. */
type NextStep =
  | { readonly kind: 'publish' }
  | { readonly kind: 'exists' }
  | { readonly kind: 'waiting'; readonly missing: readonly string[] };

/** A staged path, and the candidate made from it or the outcome that ends it. */
interface IngestResult {
  readonly staged: StagedPath;
  readonly ingested: Outcome | IngestedPath;
}

/** Paths worked on at once. They mostly wait for storage. */
const pathsAtOnce = 64;

export function createPathPublisher(options: PathPublisherOptions): PathPublisher {
  const { pending, wake, now } = options;
  const attachmentStore = createAttachmentStore(options);
  const conflicts = createConflictChecker(options);
  const ingestPath = createIngest(options, conflicts, attachmentStore);
  const narInfos = createNarInfoPublisher(options, conflicts);

  async function ingest(context: PublishContext, staged: StagedPath): Promise<IngestResult> {
    return { staged, ingested: await catchRejection(() => ingestPath(context, staged)) };
  }

  /**
   * Parks the candidate until its references are present. A reference may be published while the
   * candidate is being parked, and neither publisher sees the other. So everything is checked again
   * after the marker is written, until the answer stays the same.
   */
  async function parkUntilReady(
    context: PublishContext,
    info: PathInfo,
    parked: Parked,
  ): Promise<NextStep> {
    const references = info.references.filter((reference) => reference !== info.path);
    // A fresh candidate was just checked for conflicts, a resumed one long ago.
    if (parked.reference !== null && (await conflicts.checkConflicts(context, info))) {
      return { kind: 'exists' };
    }
    let missing = await context.presence.findMissing(references);
    while (missing[0] !== undefined && storeHash(missing[0]) !== parked.reference) {
      await parked.moveTo(storeHash(missing[0]));
      if (await conflicts.checkConflicts(context, info)) return { kind: 'exists' };
      missing = await context.presence.findMissing(references);
    }
    return missing.length === 0 ? { kind: 'publish' } : { kind: 'waiting', missing };
  }

  async function takeStep(
    context: PublishContext,
    candidate: Candidate,
    parked: Parked,
    prepared: PreparedNarInfos,
  ): Promise<Outcome> {
    const warnings = warningsOf(candidate);
    const step = await parkUntilReady(context, candidate.info, parked);
    switch (step.kind) {
      case 'publish': {
        const status = await narInfos.publishNarInfo(context, candidate, prepared);
        return { status, ...warnings };
      }
      case 'exists':
        return { status: 'exists', ...warnings };
      case 'waiting':
        return { status: 'waiting', missing: step.missing, ...warnings };
    }
  }

  /**
   * Publishes the candidate if its references are present, else parks it.
   *
   * @param reference the store hash that it waits for already; null for a fresh candidate
   */
  async function finish(
    context: PublishContext,
    { candidate, attachments }: IngestedPath,
    reference: string | null,
    prepared: PreparedNarInfos,
  ): Promise<FinishedPath> {
    const parked = createParked({ pending, candidate, attachments, reference, now });
    const outcome = await catchRejection(() => takeStep(context, candidate, parked, prepared));
    const unpark = isFinal(outcome.status) ? () => parked.forget() : nothingParked;
    return { info: candidate.info, outcome, unpark };
  }

  /** Finishes the paths of a batch, each after its references in the batch. */
  async function finishAll(
    context: PublishContext,
    results: readonly IngestResult[],
    prepared: PreparedNarInfos,
  ): Promise<FinishedPath[]> {
    const started = new Map<string, Promise<FinishedPath>>();
    return mapConcurrent(results, pathsAtOnce, async ({ staged, ingested }) => {
      if (isOutcome(ingested)) {
        return { info: staged.claim, outcome: ingested, unpark: nothingParked };
      }
      const { path, references } = ingested.candidate.info;
      const before = references.flatMap((reference) => started.get(reference) ?? []);
      const work = Promise.all(before).then(() => finish(context, ingested, null, prepared));
      started.set(path, work);
      return work;
    });
  }

  /** Writes the listing and the log of a published path. */
  async function attach({ staged: { claim, readLog }, ingested }: IngestResult): Promise<void> {
    const attachments = isOutcome(ingested)
      ? await attachmentStore.findMissing(claim, await readLog())
      : ingested.attachments;
    await attachmentStore.writeAttachments(claim, attachments);
  }

  /** Wakes the paths that wait for these published paths. */
  async function wakeDependents(published: readonly FinishedPath[]): Promise<void> {
    if (published.length === 0) return;
    const hashes = published.map(({ info }) => storeHash(info.path));
    for (const waiting of await pending.findWaiting(hashes)) await wake(waiting);
  }

  return {
    async publishPaths(context, paths) {
      const results = await mapConcurrent(paths, pathsAtOnce, (path) => ingest(context, path));
      await context.inFlight?.waitForEarlier(paths.flatMap(({ claim }) => claim.references));
      const candidates = results.flatMap(({ ingested }) =>
        isOutcome(ingested) ? [] : [ingested.candidate],
      );
      const prepared = await narInfos.prepareNarInfos(context, candidates);
      const finished = await finishAll(context, results, prepared);
      context.inFlight?.markDecided();
      const published = results.filter((_, index) => isPublished(finished[index]));
      await mapConcurrent(published, pathsAtOnce, attach);
      await wakeDependents(finished.filter(isPublished));
      return finished;
    },

    async resumeParked(context, record, reference) {
      const { info, nar, unclaimed, upload, origin } = record;
      const attachments = await pending.readAttachments(storeHash(info.path), upload);
      const candidate = { info, nar, unclaimed, upload, origin };
      const ingested = { candidate, attachments };
      const finished = await finish(context, ingested, reference, nothingPrepared);
      if (isPublished(finished)) {
        await attachmentStore.writeAttachments(info, attachments);
        await wakeDependents([finished]);
      }
      return finished;
    },
  };
}

const nothingParked = (): Promise<void> => Promise.resolve();

function isOutcome(ingested: Outcome | IngestedPath): ingested is Outcome {
  return 'status' in ingested;
}

function isPublished(finished: FinishedPath | undefined): boolean {
  const status = finished?.outcome.status;
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
