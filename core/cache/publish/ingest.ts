import { NicheError, isRejection } from '../../errors.ts';
import { maxNamedMissing } from '../../limits.ts';
import type { PathInfo } from '../../nix/path-info.ts';
import { storeHash } from '../../nix/store-path.ts';
import type { Bucket } from '../../storage/bucket.ts';
import type { CacheConfig } from '../config.ts';
import type { CheckedNar, NarStore } from '../nar/store.ts';
import type { Outcome } from '../receipts/receipts.ts';
import type { Upstreams } from '../upstreams.ts';
import { frameBytes } from '../zstd/frames.ts';
import type { AttachmentStore } from './attachments.ts';
import type { ConflictChecker, UpstreamCheck } from './conflicts.ts';
import type { PublishContext } from './context.ts';
import type { IngestedPath, StagedPath } from './paths.ts';
import type { PendingPaths } from './pending.ts';
import type { NarInfoSigner } from './sign-narinfo.ts';

export interface IngestOptions {
  readonly public: Bucket;
  readonly config: CacheConfig;
  readonly upstreams: Upstreams;
  readonly nars: NarStore;
  readonly narInfoSigner: NarInfoSigner;
  readonly pending: Pick<PendingPaths, 'readRecord'>;
  /** The largest NAR that this publisher's time limit allows, in bytes. */
  readonly maxNarBytes: number;
}

/**
 * Checks a staged path and stores its NAR.
 *
 * @returns the outcome instead, when the path is published already
 * @throws NicheError rejections, and the errors of storage and upstreams
 */
export type IngestPath = (
  context: PublishContext,
  staged: StagedPath,
) => Promise<Outcome | IngestedPath>;

/** A claim whose NAR is stored. */
interface StoredClaim {
  readonly nar: CheckedNar;
  readonly upstream: UpstreamCheck;
}

export function createIngest(
  options: IngestOptions,
  conflicts: ConflictChecker,
  attachmentStore: AttachmentStore,
): IngestPath {
  const { config, nars, narInfoSigner } = options;

  /**
   * Returns whether to store the NAR before looking the path up in the cache. A client has just looked
   * it up, so a small path is hardly ever there, and a conditional write finds that out without a
   * request of its own: neither its NAR nor its narinfo can be created.
   */
  function storesFirst(context: PublishContext, claim: PathInfo): boolean {
    const { conditionalPut, conditionalComplete } = options.public.capabilities;
    const isSmall = claim.narSize <= frameBytes && conditionalPut && conditionalComplete;
    return isSmall && !context.blocked.refuses(claim);
  }

  /**
   * Returns the state of a path whose staged NAR is refused. A published path stays published. A parked
   * one goes on waiting when its NAR is gone: an earlier attempt stored it, and removed the batch while
   * the client was staging it once more.
   *
   * @throws `error` for every other path
   */
  async function settleRefused(
    context: PublishContext,
    { claim, upload }: StagedPath,
    error: unknown,
  ): Promise<Outcome> {
    if (!isRejection(error)) throw error;
    // First, since a path moves from parked to published.
    const isParked =
      error.code === 'missing-nar' &&
      (await options.pending.readRecord(storeHash(claim.path), upload)) !== null;
    const state = await conflicts.checkCache(context, claim);
    if (state !== null) return { status: state };
    if (!isParked) throw error;
    // Its receipt counts like the earlier one, by which clients learn what to stage.
    const others = claim.references.filter((reference) => reference !== claim.path);
    const { missing } = await context.presence.findReferences(others, maxNamedMissing);
    return { status: 'waiting', missing };
  }

  /** Stores the NAR, and looks the path up in the cache only if its NAR is there. */
  async function storeThenCheck(
    context: PublishContext,
    { claim, openNar }: StagedPath,
  ): Promise<StoredClaim | 'exists'> {
    const upstream = await conflicts.checkUpstreams(claim);
    const nar = await nars.storeNar(claim, openNar);
    const state = nar.isNew ? null : await conflicts.checkCache(context, claim);
    return state ?? { nar, upstream };
  }

  async function checkThenStore(
    context: PublishContext,
    { claim, openNar }: StagedPath,
  ): Promise<StoredClaim | 'exists'> {
    const check = await conflicts.checkConflicts(context, claim);
    if (check.kind === 'exists') return check.kind;
    return { nar: await nars.storeNar(claim, openNar), upstream: check };
  }

  return async (context, staged) => {
    const { claim, upload, origin, readLog } = staged;
    assertSize(claim, options.maxNarBytes, config.limits.maxNarBytes);
    narInfoSigner.assertSignable(claim);
    const storeNar = storesFirst(context, claim) ? storeThenCheck : checkThenStore;
    const stored = await storeNar(context, staged).catch((error: unknown) =>
      settleRefused(context, staged, error),
    );
    if (stored === 'exists') return { status: stored };
    if ('status' in stored) return stored;
    const { listing, unclaimed, url, compression, fileHash, fileSize } = stored.nar;
    const nar = { url, compression, fileHash, fileSize };
    const info = { ...claim, signatures: narInfoSigner.keptSignatures(claim) };
    const attachments = attachmentStore.formatAttachments(listing, await readLog());
    const candidate = { info, nar, unclaimed, upload, origin };
    return { candidate, attachments, upstream: stored.upstream };
  };
}

/**
 * Checks the claimed size before any byte is read.
 *
 * @param maxInTime the largest NAR that the publisher's time limit allows, in bytes
 * @param maxNarBytes the largest NAR that the cache accepts
 * @throws NicheError `too-large`
 */
export function assertSize(
  { path, narSize }: PathInfo,
  maxInTime: number,
  maxNarBytes: number,
): void {
  if (narSize > maxInTime) {
    throw new NicheError(
      'too-large',
      `the NAR of ${path} is too large for this publisher's time limit: expected at most ${maxInTime} bytes, got ${narSize}`,
    );
  }
  if (narSize > maxNarBytes) {
    throw new NicheError(
      'too-large',
      `the NAR of ${path} is too large for this cache: expected at most ${maxNarBytes} bytes, got ${narSize}`,
    );
  }
}
