import { NicheError, isNicheError, isRejection, messageOf } from '../../errors.ts';
import { canonicalClaim } from '../manifest.ts';
import { isNarKeyOf } from '../nar/store.ts';
import type { CheckedNar } from '../nar/store.ts';
import type { PathInfo } from '../../nix/path-info.ts';
import { assertSize } from './ingest.ts';
import type { IngestOptions } from './ingest.ts';
import type { Candidate } from './paths.ts';
import type { PendingRecord, ReadRecord } from './pending.ts';

/**
 * Checks a parked path once more before it is signed, as if it had just been staged. A record in the
 * private root proves nothing: credentials that reach too far could have written it.
 *
 * @returns the candidate, with nothing taken from the record that was not checked
 * @throws NicheError rejections, and the errors of storage
 */
export type CheckParked = (record: ReadRecord) => Promise<Candidate>;

export function createParkedCheck(options: IngestOptions): CheckParked {
  const { config, nars, narInfoSigner, maxNarBytes } = options;

  /** @throws NicheError `failed` when the key or the object is not that of the claimed NAR */
  async function checkNar(claim: PathInfo, { nar }: PendingRecord): Promise<CheckedNar> {
    if (!isNarKeyOf(nar.url, claim.narHash)) {
      throw invalid(claim, `its NAR is not stored under ${JSON.stringify(nar.url)}`);
    }
    try {
      return await nars.checkNar(claim, nar.url);
    } catch (error) {
      if (!isNicheError(error, 'storage-integrity')) throw error;
      throw isRejection(error.cause) ? error.cause : invalid(claim, error.message, error);
    }
  }

  return async (record) => {
    const { upload, origin, unclaimed, isOwn } = record;
    const info = canonicalClaim(record.info, config.storeDir, (field, cause) =>
      invalid(record.info, `${field}: ${messageOf(cause)}`, cause),
    );
    // The record still has each byte that this process wrote, so the NAR is as it stored it. A purge
    // may have deleted that NAR since then.
    if (isOwn && (await options.public.head(record.nar.url)) !== null) {
      return { info, nar: record.nar, unclaimed, upload, origin };
    }
    assertSize(info, maxNarBytes, config.limits.maxNarBytes);
    narInfoSigner.assertSignable(info);
    const { url, compression, fileHash, fileSize, unclaimed: found } = await checkNar(info, record);
    return {
      info: { ...info, signatures: narInfoSigner.keptSignatures(info) },
      nar: { url, compression, fileHash, fileSize },
      unclaimed: found,
      upload,
      origin,
    };
  };
}

function invalid({ path }: PathInfo, why: string, cause?: unknown): NicheError {
  return new NicheError('failed', `the pending record of ${path} is not valid: ${why}`, { cause });
}
