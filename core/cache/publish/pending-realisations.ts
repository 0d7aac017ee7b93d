import * as z from 'zod';

import { maxDocumentBytes } from '../../limits.ts';
import { canonicalRealisation, realisationHash, realisationName } from '../../nix/realisation.ts';
import type { Realisation } from '../../nix/realisation.ts';
import { storeHash } from '../../nix/store-path.ts';
import type { Bucket } from '../../storage/bucket.ts';
import { isNicheError } from '../../errors.ts';
import type { Origin } from '../audit.ts';
import { pendingRealisationKey } from '../layout.ts';
import type { WaitingMarker } from '../layout.ts';
import { realisationClaim } from '../manifest.ts';
import { writeObject } from '../objects.ts';
import { readStoredJson } from '../stored-json.ts';
import type { JsonFormat } from '../stored-json.ts';
import { originField } from './pending.ts';
import type { PendingPaths } from './pending.ts';

/** A realisation as a client claims it. */
export interface StagedRealisation {
  readonly realisation: Realisation;
  readonly upload: string;
  readonly origin: Origin | null;
}

/** A realisation that waits for its output, as `pending/` stores it. */
export interface PendingRealisation extends StagedRealisation {
  readonly version: typeof recordVersion;
  /** When it began to wait, ISO 8601. */
  readonly since: string;
}

/** The pending records of realisations. Their markers are among those of paths. */
export interface PendingRealisations {
  /** Stores the record, then the marker of the output. */
  park(staged: StagedRealisation, since: string): Promise<void>;
  /**
   * Reads a record; null when there is none. Deletes a damaged one, from which nothing can be
   * published.
   *
   * @throws NicheError `newer-version` when a later release wrote it
   */
  readRecord(
    waiting: Pick<WaitingMarker, 'storeHash' | 'upload'>,
  ): Promise<PendingRealisation | null>;
  /** Deletes the record and the marker. */
  forget(staged: StagedRealisation): Promise<void>;
}

const recordVersion = 1;

const recordFormat: JsonFormat<PendingRealisation> = {
  code: 'failed',
  schema: z.object({
    version: z.literal(recordVersion),
    realisation: realisationClaim,
    upload: z.string(),
    origin: originField,
    since: z.iso.datetime(),
  }),
  newestVersion: recordVersion,
  maxBytes: maxDocumentBytes,
};

export function createPendingRealisations(
  bucket: Bucket,
  markers: Pick<PendingPaths, 'markWaiting' | 'unmarkWaiting'>,
  storeDir: string,
): PendingRealisations {
  return {
    async park(staged, since) {
      const record: PendingRealisation = { version: recordVersion, ...staged, since };
      await writeObject(bucket, recordKey(staged), JSON.stringify(record));
      await markers.markWaiting(markerOf(staged));
    },
    async readRecord({ storeHash: hash, upload }) {
      const key = pendingRealisationKey(hash, upload);
      try {
        const record = await readStoredJson(bucket, key, recordFormat);
        if (!record) return null;
        const realisation = canonicalRealisation(record.realisation, storeDir);
        if (recordKey({ ...record, realisation }) === key) return { ...record, realisation };
      } catch (error) {
        if (!isNicheError(error, 'failed', 'malformed-realisation')) throw error;
      }
      await bucket.delete([key]);
      return null;
    },
    async forget(staged) {
      await bucket.delete([recordKey(staged)]);
      await markers.unmarkWaiting([markerOf(staged)]);
    },
  };
}

/** Returns the marker by which the published output finds the realisation. */
function markerOf({ realisation, upload }: StagedRealisation): WaitingMarker {
  return {
    reference: storeHash(realisation.outPath),
    storeHash: realisationHash(realisationName(realisation)),
    upload,
  };
}

function recordKey(staged: StagedRealisation): string {
  return pendingRealisationKey(markerOf(staged).storeHash, staged.upload);
}
