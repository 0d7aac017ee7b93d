import type { BatchId } from '../../core/cache/layout.ts';
import { manifestKey } from '../../core/cache/layout.ts';
import { listStatuses } from '../../core/cache/receipts/listed-receipts.ts';
import { isPublished } from '../../core/cache/receipts/receipts.ts';
import type { ReceiptStatus } from '../../core/cache/receipts/receipts.ts';
import type { JournalEntry, UploadJournal } from '../../core/cache/local/upload-journal.ts';
import { mapConcurrent } from '../../core/util/concurrency.ts';
import { isNicheError } from '../../core/errors.ts';
import type { PathInfo } from '../../core/nix/path-info.ts';
import { storeHash } from '../../core/nix/store-path.ts';
import type { Bucket } from '../../core/storage/bucket.ts';

/**
 * Finds paths that earlier runs on this machine staged and that are not published yet. Only for paths
 * that the cache lacks: so a receipt that reports one as published is forged or outdated.
 */
export interface EarlierUploads {
  find(infos: readonly PathInfo[]): Promise<{
    readonly staged: readonly { readonly info: PathInfo; readonly batch: BatchId }[];
    /** The other paths, in their order. */
    readonly unstaged: readonly PathInfo[];
  }>;
}

/** Receipts and manifests of earlier uploads read at the same time. */
const readsAtOnce = 32;

export function createEarlierUploads(bucket: Bucket, journal: UploadJournal): EarlierUploads {
  const receipts = new Map<string, Promise<ReadonlyMap<string, ReceiptStatus> | null>>();
  const manifests = new Map<string, Promise<boolean | null>>();

  /** Null when this upload's credentials may not read another upload's receipts. */
  function receiptsOf(upload: string): Promise<ReadonlyMap<string, ReceiptStatus> | null> {
    const found = receipts.get(upload) ?? unlessDenied(() => listStatuses(bucket, upload), null);
    receipts.set(upload, found);
    return found;
  }

  /** Null when this client may not read manifests: then the journal decides, if it is sure. */
  function isStaged(batch: BatchId): Promise<boolean | null> {
    const key = manifestKey(batch);
    const found =
      manifests.get(key) ?? unlessDenied(async () => (await bucket.head(key)) !== null, null);
    manifests.set(key, found);
    return found;
  }

  async function isPending(
    { path }: PathInfo,
    { batch, isConfirmed }: JournalEntry,
  ): Promise<boolean> {
    const found = await receiptsOf(batch.upload);
    if (found === null) return false;
    const status = found.get(storeHash(path)) ?? found.get(String(batch.batch));
    if (status === 'waiting') return true;
    if (status === undefined) return (await isStaged(batch)) ?? isConfirmed;
    // While the batch is there, a publisher will handle it, or has published the path just now.
    return isPublished(status) && (await isStaged(batch)) === true;
  }

  return {
    async find(infos) {
      const batches = await mapConcurrent(infos, readsAtOnce, async (info) => {
        const staged = journal.findStaged(info);
        return staged && (await isPending(info, staged)) ? staged.batch : null;
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
