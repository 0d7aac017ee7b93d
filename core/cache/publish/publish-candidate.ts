import { maxNamedMissing } from '../../limits.ts';
import type { PathInfo } from '../../nix/path-info.ts';
import { storeHash } from '../../nix/store-path.ts';
import { catchRejection, isFinal } from '../receipts/receipts.ts';
import type { Outcome } from '../receipts/receipts.ts';
import type { ConflictCheck, ConflictChecker, UpstreamCheck } from './conflicts.ts';
import type { PublishContext } from './context.ts';
import { nothingPrepared } from './narinfos.ts';
import type { NarInfoPublisher, PreparedNarInfos } from './narinfos.ts';
import type { Parked } from './parked.ts';
import { nothingToUnpark } from './paths.ts';
import type { Candidate, FinishedPath } from './paths.ts';

/** Publishes a candidate if its references are present, else parks it. */
export type PublishCandidate = (
  context: PublishContext,
  request: CandidateRequest,
) => Promise<FinishedPath>;

export interface CandidateRequest {
  readonly candidate: Candidate;
  /** Its waiting state, which is updated. */
  readonly parked: Parked;
  /** What the upstreams have in its place; null when that was not looked up just now. */
  readonly upstream: UpstreamCheck | null;
  /** Narinfos of the candidate's batch. */
  readonly prepared: PreparedNarInfos;
  /** Checks a candidate that was parked, right before it is published. */
  readonly confirm?: () => Promise<Candidate>;
}

/** The next step for a candidate. */
type NextStep =
  | { readonly kind: 'publish' }
  | { readonly kind: 'exists' }
  | { readonly kind: 'waiting'; readonly missing: readonly string[] }
  | { readonly kind: 'undecided'; readonly why: string };

export function createCandidatePublisher(options: {
  readonly conflicts: ConflictChecker;
  readonly narInfos: NarInfoPublisher;
}): PublishCandidate {
  const { conflicts, narInfos } = options;

  /**
   * Parks the candidate until its references are present. A reference may be published while the
   * candidate is being parked, and neither publisher sees the other. So everything is checked again
   * after the marker is written, until the answer stays the same.
   *
   * A candidate whose upstream is undecided waits for itself: for a sweep, or for another upload that
   * publishes it.
   */
  async function parkUntilReady(
    context: PublishContext,
    { candidate: { info }, parked, upstream }: CandidateRequest,
  ): Promise<NextStep> {
    const maxMissing = parked.reference === null ? maxNamedMissing : 1;
    let check: ConflictCheck | null = upstream;
    let named: readonly string[] = [];
    for (;;) {
      const missing = await findMissing(context, info, parked, maxMissing);
      if (missing.length === 0) {
        check ??= await conflicts.checkConflicts(context, info);
        if (check.kind === 'exists') return check;
        if (check.kind === 'none') return { kind: 'publish' };
      }
      const awaited = storeHash(missing[0] ?? info.path);
      const isStored = parked.isMarked && parked.reference === awaited;
      if (isStored && missing.length === 0 && check?.kind === 'undecided') return check;
      if (isStored) return { kind: 'waiting', missing: named.length > 0 ? named : missing };
      await parked.moveTo(awaited);
      named = missing;
      check = await conflicts.checkConflicts(context, info);
      if (check.kind === 'exists') return check;
    }
  }

  async function takeStep(context: PublishContext, request: CandidateRequest): Promise<Outcome> {
    const { candidate, prepared, confirm } = request;
    const warnings = warningsOf(candidate);
    const step = await parkUntilReady(context, request);
    switch (step.kind) {
      case 'publish': {
        const confirmed = confirm ? await confirm() : candidate;
        const status = await narInfos.publishNarInfo(context, confirmed, prepared);
        if (status === 'missing') {
          return takeStep(context, { ...request, upstream: null, prepared: nothingPrepared });
        }
        return { status, ...warningsOf(confirmed) };
      }
      case 'exists':
        return { status: 'exists', ...warnings };
      case 'waiting':
        return { status: 'waiting', missing: step.missing, ...warnings };
      case 'undecided':
        return { status: 'waiting', code: 'upstream-unavailable', message: step.why, ...warnings };
    }
  }

  return async (context, request) => {
    const {
      candidate: { info },
      parked,
    } = request;
    const outcome = await catchRejection(() => takeStep(context, request));
    const unpark = isFinal(outcome.status) ? () => parked.forget() : nothingToUnpark;
    return { info, outcome, unpark };
  };
}

/**
 * Finds missing references of a candidate. Without a limit, a path with thousands of them would cost
 * as many requests each time. So a path that waits for one of them is only looked up under that.
 */
async function findMissing(
  { presence }: PublishContext,
  { path, references }: PathInfo,
  { reference, isMarked }: Parked,
  maxMissing: number,
): Promise<readonly string[]> {
  if (isMarked) {
    const awaited = references.filter((each) => storeHash(each) === reference && each !== path);
    const { missing } = await presence.findReferences(awaited, 1);
    if (missing.length > 0) return missing;
  }
  const others = startingWith(
    references.filter((each) => each !== path),
    reference,
  );
  return (await presence.findReferences(others, maxMissing)).missing;
}

/**
 * Puts the references before the awaited one last: they were found before. Else a path that is woken
 * for each of its thousands of references would look for all earlier ones each time.
 */
function startingWith(references: readonly string[], awaited: string | null): readonly string[] {
  const start = references.findIndex((each) => storeHash(each) === awaited);
  return start > 0 ? [...references.slice(start), ...references.slice(0, start)] : references;
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
