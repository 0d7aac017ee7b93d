import { isRejection } from '../../errors.ts';
import type { PathInfo } from '../../nix/path-info.ts';
import { storeHash } from '../../nix/store-path.ts';
import type { Bucket } from '../../storage/bucket.ts';
import type { Attachments, AttachmentStore } from './attachments.ts';
import type { Origin } from '../audit.ts';
import { frameBytes } from '../zstd/stream.ts';
import type { CacheConfig } from '../config.ts';
import type { CheckedNar, NarStore } from '../nar/store.ts';
import type { NarInfoSigner } from './sign-narinfo.ts';
import type { Candidate } from './pending.ts';
import type { Outcome } from '../receipts/receipts.ts';
import { assertSize } from './refusals.ts';
import type { PublishContext, Settlement } from './conflicts.ts';
import type { Upstreams } from '../upstreams.ts';

/** A staged path as its manifest claims it. */
export interface StagedPath {
  readonly claim: PathInfo;
  readonly upload: string;
  readonly origin: Origin | null;
  readonly openNar: () => AsyncIterable<Uint8Array>;
  readonly readLog: () => Promise<Uint8Array | null>;
}

/** What a staged path turned out to be: its NAR is checked and stored. */
export interface Examined {
  readonly candidate: Candidate;
  readonly attachments: Attachments;
}

export interface ExaminationOptions {
  readonly public: Bucket;
  readonly config: CacheConfig;
  readonly upstreams: Upstreams;
  readonly nars: NarStore;
  readonly notary: NarInfoSigner;
  /** The largest NAR that this publisher's time limit allows, in bytes. */
  readonly maxNarBytes: number;
}

/**
 * Finds out what a staged path is, and stores its NAR.
 *
 * @returns the candidate that it makes; its outcome, where that is known already
 * @throws rejections, and what storage and upstreams throw
 */
export type Examine = (run: PublishContext, staged: StagedPath) => Promise<Outcome | Examined>;

export function createExamination(
  options: ExaminationOptions,
  settlement: Settlement,
  attachmentStore: AttachmentStore,
): Examine {
  const { config, upstreams, nars, notary } = options;

  /**
   * Whether a path is examined before the cache is asked for it. A small one hardly ever is there, since
   * its client has just asked, and then one request says so: the NAR or the narinfo cannot be created.
   */
  function isSettledLater({ narSize, path }: PathInfo, run: PublishContext): boolean {
    const { conditionalPut, conditionalComplete } = options.public.capabilities;
    const isSmall = narSize <= frameBytes && conditionalPut && conditionalComplete;
    return isSmall && !run.blocked.has(storeHash(path));
  }

  /** The NAR of a path of which the cache was not asked yet, and is only if that seems to be here. */
  async function storeThenSettle(
    run: PublishContext,
    { claim, openNar }: StagedPath,
  ): Promise<CheckedNar | 'exists'> {
    await settlement.upstream(claim);
    let stored: CheckedNar;
    try {
      stored = await nars.storeNar(claim, openNar);
    } catch (error) {
      // What is here already decides before what is wrong with the NAR.
      const settled = isRejection(error) ? await settlement.here(run, claim) : null;
      if (settled === null) throw error;
      return settled;
    }
    return (stored.isNew ? null : await settlement.here(run, claim)) ?? stored;
  }

  return async (run, staged) => {
    const { claim, upload, origin, openNar, readLog } = staged;
    assertSize(claim, options.maxNarBytes, config.limits.maxNarBytes);
    notary.assertSignable(claim);
    const stored = isSettledLater(claim, run)
      ? await storeThenSettle(run, staged)
      : ((await settlement.settle(run, claim)) ?? (await nars.storeNar(claim, openNar)));
    if (stored === 'exists') return { status: stored };
    const { listing, unclaimed, url, compression, fileHash, fileSize } = stored;
    const nar = { url, compression, fileHash, fileSize };
    const info = { ...claim, signatures: upstreams.verifiedSignatures(claim) };
    const attachments = attachmentStore.of(listing, await readLog());
    return { candidate: { info, nar, unclaimed, upload, origin }, attachments };
  };
}
