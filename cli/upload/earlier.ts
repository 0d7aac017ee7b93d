import type { BatchId } from '../../core/cache/layout.ts';
import { manifestKey } from '../../core/cache/layout.ts';
import { listStatuses } from '../../core/cache/receipts/listed-receipts.ts';
import type { ReceiptStatus } from '../../core/cache/receipts/receipts.ts';
import type { JournalEntry, UploadJournal } from '../../core/cache/local/upload-journal.ts';
import { mapConcurrent } from '../../core/util/concurrency.ts';
import { isNicheError } from '../../core/errors.ts';
import type { PathInfo } from '../../core/nix/path-info.ts';
import { storeHash } from '../../core/nix/store-path.ts';
import type { Bucket } from '../../core/storage/bucket.ts';

/** What earlier runs on this machine have staged, and nobody has published yet. */
export interface EarlierUploads {
  find(infos: readonly PathInfo[]): Promise<{
    readonly staged: readonly { readonly info: PathInfo; readonly batch: BatchId }[];
    /** The rest, in its order. */
    readonly unstaged: readonly PathInfo[];
  }>;
}

/** At earlier uploads, and at their batches. */
const looksAtOnce = 32;

export function createEarlierUploads(bucket: Bucket, journal: UploadJournal): EarlierUploads {
  const receipts = new Map<string, Promise<ReadonlyMap<string, ReceiptStatus> | null>>();
  const manifests = new Map<string, Promise<boolean | null>>();

  /** Null where this upload's credential may not read what was said of another. */
  function receiptsOf(upload: string): Promise<ReadonlyMap<string, ReceiptStatus> | null> {
    const found = receipts.get(upload) ?? unlessDenied(() => listStatuses(bucket, upload), null);
    receipts.set(upload, found);
    return found;
  }

  /** Null where this client may not look: then the journal is believed, as far as it is sure. */
  function isThere(batch: BatchId): Promise<boolean | null> {
    const key = manifestKey(batch);
    const found =
      manifests.get(key) ?? unlessDenied(async () => (await bucket.head(key)) !== null, null);
    manifests.set(key, found);
    return found;
  }

  async function isOpen(
    { path }: PathInfo,
    { batch, isConfirmed }: JournalEntry,
  ): Promise<boolean> {
    const said = await receiptsOf(batch.upload);
    if (said === null) return false;
    const status = said.get(storeHash(path)) ?? said.get(String(batch.batch));
    return (
      status === 'waiting' || (status === undefined && ((await isThere(batch)) ?? isConfirmed))
    );
  }

  return {
    async find(infos) {
      const batches = await mapConcurrent(infos, looksAtOnce, async (info) => {
        const before = journal.findStaged(info);
        return before && (await isOpen(info, before)) ? before.batch : null;
      });
      const staged = infos.flatMap((info, at) => {
        const batch = batches[at];
        return batch ? [{ info, batch }] : [];
      });
      return { staged, unstaged: infos.filter((_, at) => !batches[at]) };
    },
  };
}

async function unlessDenied<T, D>(work: () => Promise<T>, denied: D): Promise<T | D> {
  try {
    return await work();
  } catch (error) {
    if (isNicheError(error, 'storage-denied')) return denied;
    throw error;
  }
}
