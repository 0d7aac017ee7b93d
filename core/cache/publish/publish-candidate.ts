import { maxNamedMissing } from '../../limits.ts';
import type { PathInfo } from '../../nix/path-info.ts';
import { storeHash } from '../../nix/store-path.ts';
import { catchRejection, isFinal } from '../receipts/receipts.ts';
import type { Outcome } from '../receipts/receipts.ts';
import type { ConflictChecker } from './conflicts.ts';
import type { PublishContext } from './context.ts';
import { nothingPrepared } from './narinfos.ts';
import type { NarInfoPublisher, PreparedNarInfos } from './narinfos.ts';
import type { Parked } from './parked.ts';
import { nothingToUnpark } from './paths.ts';
import type { Candidate, FinishedPath } from './paths.ts';

/**
 * Publishes a candidate if its references are present, else parks it.
 *
 * @param parked its waiting state, which this updates
 * @param prepared narinfos of the candidate's batch
 * @param confirm checks a candidate that was parked, right before it is published
 */
export type PublishCandidate = (
  context: PublishContext,
  candidate: Candidate,
  parked: Parked,
  prepared: PreparedNarInfos,
  confirm?: () => Promise<Candidate>,
) => Promise<FinishedPath>;

/** The next step for a candidate. */
type NextStep =
  | { readonly kind: 'publish' }
  | { readonly kind: 'exists' }
  | { readonly kind: 'waiting'; readonly missing: readonly string[] };

export function createCandidatePublisher(options: {
  readonly conflicts: ConflictChecker;
  readonly narInfos: NarInfoPublisher;
}): PublishCandidate {
  const { conflicts, narInfos } = options;

  /**
   * Parks the candidate until its references are present. A reference may be published while the
   * candidate is being parked, and neither publisher sees the other. So the reference is requested
   * again after its marker is written.
   *
   * A path may have thousands of references. One that is missing is enough to wait for it, so the
   * rest is not requested then. Only a fresh candidate lists more of them, for its first receipt.
   */
  async function parkUntilReady(
    context: PublishContext,
    info: PathInfo,
    parked: Parked,
  ): Promise<NextStep> {
    const { presence } = context;
    const references = info.references.filter((reference) => reference !== info.path);
    const isFresh = parked.reference === null;
    if (parked.isMarked) {
      const awaited = references.filter((reference) => storeHash(reference) === parked.reference);
      const { missing } = await presence.findReferences(awaited, 1);
      if (missing.length > 0) return { kind: 'waiting', missing };
    }
    // A fresh candidate was just checked for conflicts, a resumed one long ago.
    if (!isFresh && (await conflicts.checkConflicts(context, info))) return { kind: 'exists' };
    for (;;) {
      const maxMissing = isFresh ? maxNamedMissing : 1;
      const { missing } = await presence.findReferences(references, maxMissing);
      const [next] = missing;
      if (next === undefined) return { kind: 'publish' };
      await parked.moveTo(storeHash(next));
      if (await conflicts.checkConflicts(context, info)) return { kind: 'exists' };
      const again = await presence.findReferences([next], 1);
      if (again.missing.length > 0) return { kind: 'waiting', missing };
    }
  }

  async function takeStep(
    context: PublishContext,
    candidate: Candidate,
    parked: Parked,
    prepared: PreparedNarInfos,
    confirm: () => Promise<Candidate>,
  ): Promise<Outcome> {
    const warnings = warningsOf(candidate);
    const step = await parkUntilReady(context, candidate.info, parked);
    switch (step.kind) {
      case 'publish': {
        const confirmed = await confirm();
        const status = await narInfos.publishNarInfo(context, confirmed, prepared);
        if (status === 'missing') {
          return takeStep(context, candidate, parked, nothingPrepared, confirm);
        }
        return { status, ...warningsOf(confirmed) };
      }
      case 'exists':
        return { status: 'exists', ...warnings };
      case 'waiting':
        return { status: 'waiting', missing: step.missing, ...warnings };
    }
  }

  return async (context, candidate, parked, prepared, confirm) => {
    const { info } = candidate;
    const asIs = (): Promise<Candidate> => Promise.resolve(candidate);
    const outcome = await catchRejection(() =>
      takeStep(context, candidate, parked, prepared, confirm ?? asIs),
    );
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
