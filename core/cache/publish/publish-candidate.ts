import type { PathInfo } from '../../nix/path-info.ts';
import { storeHash } from '../../nix/store-path.ts';
import { catchRejection, isFinal } from '../receipts/receipts.ts';
import type { Outcome } from '../receipts/receipts.ts';
import type { ConflictChecker } from './conflicts.ts';
import type { PublishContext } from './context.ts';
import type { NarInfoPublisher, PreparedNarInfos } from './narinfos.ts';
import { createParked } from './parked.ts';
import type { Parked } from './parked.ts';
import { nothingToUnpark } from './paths.ts';
import type { Candidate, FinishedPath, IngestedPath } from './paths.ts';
import type { PendingPaths } from './pending.ts';

/**
 * Publishes a candidate if its references are present, else parks it.
 *
 * @param reference the store hash that it waits for already; null for a candidate that is not parked
 * @param prepared narinfos of the candidate's batch
 */
export type PublishCandidate = (
  context: PublishContext,
  path: IngestedPath,
  reference: string | null,
  prepared: PreparedNarInfos,
) => Promise<FinishedPath>;

/** The next step for a candidate. */
type NextStep =
  | { readonly kind: 'publish' }
  | { readonly kind: 'exists' }
  | { readonly kind: 'waiting'; readonly missing: readonly string[] };

export function createCandidatePublisher(options: {
  readonly pending: PendingPaths;
  readonly conflicts: ConflictChecker;
  readonly narInfos: NarInfoPublisher;
  readonly now: () => Date;
}): PublishCandidate {
  const { pending, conflicts, narInfos, now } = options;

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

  return async (context, { candidate, attachments }, reference, prepared) => {
    const { info } = candidate;
    const parked = createParked({ pending, candidate, attachments, reference, now });
    const outcome = await catchRejection(() => takeStep(context, candidate, parked, prepared));
    const unpark = isFinal(outcome.status) ? () => parked.forget() : nothingToUnpark;
    return { info, outcome, unpark };
  };
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
