import { setTimeout as sleep } from 'node:timers/promises';

import { createBatchReceiptReader } from '../../core/cache/receipts/batch-receipts.ts';
import type { BatchId } from '../../core/cache/layout.ts';
import {
  listStrongestReceipts,
  readListedOutcome,
} from '../../core/cache/receipts/listed-receipts.ts';
import type { Outcome } from '../../core/cache/receipts/receipts.ts';
import { mapConcurrent } from '../../core/util/concurrency.ts';
import { storeHash } from '../../core/nix/store-path.ts';
import type { Bucket } from '../../core/storage/bucket.ts';
import { pollDelays } from './poll-delays.ts';
import type { Results } from './results.ts';

/** Learns from the receipts what a publisher has made of what was staged. */
export interface ReceiptPolling {
  /** Reads the receipts of what has none yet; true when something changed. */
  read(): Promise<boolean>;
  /** Reads them until all have one, or none has come for the time that is waited, or on request. */
  wait(): Promise<void>;
}

export interface ReceiptPollingOptions {
  /** The private root. */
  readonly bucket: Bucket;
  /** How long no receipt may come before waiting ends, in milliseconds. */
  readonly waitMs: number;
  readonly signal?: AbortSignal | undefined;
  /** What is known already. */
  readonly results: Results;
  /** Where each path is staged; it grows. */
  readonly batches: ReadonlyMap<string, BatchId>;
  readonly onOutcome: (path: string, outcome: Outcome) => void;
  /** Hears of each look while there is waiting. */
  readonly onLooked: () => void;
}

/** Read at once. */
const receiptsAtOnce = 32;

export function createReceiptPolling(options: ReceiptPollingOptions): ReceiptPolling {
  const { bucket, waitMs, signal, results, batches } = options;
  /** Each is read once, however often the receipts are looked at. */
  const batchReceipts = createBatchReceiptReader(bucket);

  async function read(): Promise<boolean> {
    let changed = false;
    const open = [...results.unsettled()].flatMap((path) => {
      const batch = batches.get(path);
      return batch ? [{ path, batch }] : [];
    });
    for (const upload of new Set(open.map(({ batch }) => batch.upload))) {
      const receipts = await listStrongestReceipts(bucket, upload, batchReceipts);
      const news = open.flatMap(({ path, batch }) => {
        if (batch.upload !== upload) return [];
        // A batch that was refused whole has a receipt under its number.
        const listed = receipts.get(storeHash(path)) ?? receipts.get(String(batch.batch));
        return listed && listed.status !== results.get(path)?.status ? [{ path, listed }] : [];
      });
      await mapConcurrent(news, receiptsAtOnce, async ({ path, listed }) => {
        const outcome = await readListedOutcome(bucket, listed, path);
        if (!outcome) return;
        options.onOutcome(path, outcome);
        changed = true;
      });
    }
    return changed;
  }

  async function wait(): Promise<void> {
    let quietSince = Date.now();
    let delays = pollDelays();
    while (results.unsettled().length > 0) {
      await sleep(Math.min(delays.next().value, waitMs));
      if (await read()) {
        quietSince = Date.now();
        // The next batch is seldom long in coming.
        delays = pollDelays();
      }
      options.onLooked();
      const isQuiet = Date.now() - quietSince >= waitMs;
      if (isQuiet || signal?.aborted === true) return;
    }
  }

  return { read, wait };
}
