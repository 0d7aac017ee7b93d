import { setTimeout as sleep } from 'node:timers/promises';

import { createBatchReceiptReader } from '../../core/cache/receipts/batch-receipts.ts';
import type { BatchId } from '../../core/cache/layout.ts';
import {
  listStrongestReceipts,
  readListedOutcome,
} from '../../core/cache/receipts/listed-receipts.ts';
import type { ListedReceipt } from '../../core/cache/receipts/listed-receipts.ts';
import { isPublished, receiptSubject } from '../../core/cache/receipts/receipts.ts';
import type { Outcome } from '../../core/cache/receipts/receipts.ts';
import { mapConcurrent } from '../../core/util/concurrency.ts';
import type { PathInfo } from '../../core/nix/path-info.ts';
import type { Realisation } from '../../core/nix/realisation.ts';
import type { Bucket } from '../../core/storage/bucket.ts';
import type { Confirmation, Confirmer } from './confirm.ts';
import type { Results } from './results.ts';

/** Reads the receipts of staged paths while another process publishes them. */
export interface ReceiptPolling {
  /** Reads the receipts of pending paths once; returns whether any result changed. */
  read(): Promise<boolean>;
  /** Reads them until no path is pending, no result came for the time to wait, or it is aborted. */
  wait(): Promise<void>;
}

export interface ReceiptPollingOptions {
  /** The staging root. */
  readonly bucket: Bucket;
  /** How long no result may come before waiting ends. */
  readonly waitMs: number;
  readonly signal?: AbortSignal | undefined;
  /** The results so far. */
  readonly results: Results;
  /** Where each path is staged; it grows. */
  readonly batches: ReadonlyMap<string, BatchId>;
  /** The info of each path in `batches`; it grows. */
  readonly infos: ReadonlyMap<string, PathInfo>;
  /** The realisation of each name in `batches`; it grows. */
  readonly realisations: ReadonlyMap<string, Realisation>;
  readonly confirmer: Confirmer;
  readonly confirmRealisation: (realisation: Realisation) => Promise<Confirmation>;
  readonly onOutcome: (path: string, outcome: Outcome) => void;
  /** Called after each poll. */
  readonly onPolled: () => void;
}

/** Receipts, with the narinfos that confirm them, read at the same time. */
const receiptsAtOnce = 32;

export function createReceiptPolling(options: ReceiptPollingOptions): ReceiptPolling {
  const { bucket, waitMs, signal, results, batches, infos, confirmer } = options;
  // Reads each batch's receipts once, over all polls.
  const batchReceipts = createBatchReceiptReader(bucket);

  /** Returns the outcome of a receipt; null when it is gone, or the cache does not confirm it. */
  async function readOutcome(path: string, listed: ListedReceipt): Promise<Outcome | null> {
    if (!isPublished(listed.status)) return readListedOutcome(bucket, listed, path);
    const confirmation = await confirm(path);
    if (confirmation === null) return null;
    switch (confirmation.kind) {
      case 'confirmed':
        return readListedOutcome(bucket, listed, path);
      case 'conflict':
        return confirmation.outcome;
      case 'unconfirmed':
        results.setUnconfirmed(path, confirmation.why);
        return null;
    }
  }

  /** Returns null while it is too early to look again. */
  async function confirm(path: string): Promise<Confirmation | null> {
    const realisation = options.realisations.get(path);
    if (realisation) return options.confirmRealisation(realisation);
    const info = infos.get(path);
    return info && confirmer.isDue(path) ? confirmer.confirm(info) : null;
  }

  async function read(): Promise<boolean> {
    let changed = false;
    const open = [...results.pending()].flatMap((path) => {
      const batch = batches.get(path);
      return batch ? [{ path, batch }] : [];
    });
    for (const upload of new Set(open.map(({ batch }) => batch.upload))) {
      const receipts = await listStrongestReceipts(bucket, upload, batchReceipts);
      const news = open.flatMap(({ path, batch }) => {
        if (batch.upload !== upload) return [];
        // A batch that was rejected as a whole has one receipt, under its number.
        const listed = receipts.get(receiptSubject(path)) ?? receipts.get(String(batch.batch));
        return listed && listed.status !== results.get(path)?.status ? [{ path, listed }] : [];
      });
      await mapConcurrent(news, receiptsAtOnce, async ({ path, listed }) => {
        const outcome = await readOutcome(path, listed);
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
    while (results.pending().length > 0) {
      await sleep(Math.min(delays.next().value, waitMs));
      if (await read()) {
        quietSince = Date.now();
        // The next batch usually follows soon.
        delays = pollDelays();
      }
      options.onPolled();
      const isQuiet = Date.now() - quietSince >= waitMs;
      if (isQuiet || signal?.aborted === true) return;
    }
  }

  return { read, wait };
}

const firstDelayMs = 100;
const delayGrowth = 1.2;
const maxDelayMs = 1000;

/** Yields the delay before each poll, in milliseconds: short at first, at most a second later. */
export function* pollDelays(): Generator<number, never> {
  let delayMs = firstDelayMs;
  for (;;) {
    yield delayMs;
    delayMs = Math.min(delayMs * delayGrowth, maxDelayMs);
  }
}
