import { randomBytes } from 'node:crypto';

import { isNicheError } from '../../errors.ts';
import { maxBatchPaths, maxReceiptBytes } from '../../limits.ts';
import type { Bucket } from '../../storage/bucket.ts';
import { splitIntoChunks } from '../../util/chunk.ts';
import { mapConcurrent } from '../../util/concurrency.ts';
import { batchReceiptKey } from '../layout.ts';
import type { BatchId } from '../layout.ts';
import { writeBestEffort } from '../objects.ts';
import { readStoredJson } from '../stored-json.ts';
import {
  clipOutcome,
  formatReceipts,
  receiptFormat,
  receiptStatuses,
  receiptSubject,
  writeReceipt,
} from './receipts.ts';
import type { Outcome, Receipt } from './receipts.ts';

/**
 * A batch receipt holds the outcomes of several paths of a batch, so that there is one object to
 * write, list and read instead of one for each path.
 */

/** The outcome of one path among several. */
export type PathOutcome = Outcome & { readonly path: string };

/** A receipt, and the hash of its path or realisation. */
export type SubjectReceipt = Receipt & { readonly subject: string };

/** Upper bound of the JSON around the receipts, in bytes. */
const overheadBytes = 128;

/**
 * Writes the outcomes of paths of one batch, under keys that no other call uses. Splits them into
 * several objects where one would be too large. A path that is alone gets a receipt of its own.
 *
 * @param at when the outcomes were decided, ISO 8601
 */
export async function writeReceipts(
  bucket: Bucket,
  id: BatchId,
  outcomes: readonly PathOutcome[],
  at: string,
): Promise<void> {
  const groups = splitIntoChunks(
    outcomes.map((outcome) => clipOutcome(outcome)),
    {
      maxItems: maxBatchPaths,
      maxSize: maxReceiptBytes - overheadBytes,
      // With the comma.
      sizeOf: (outcome) => Buffer.byteLength(JSON.stringify(outcome)) + 1,
    },
  );
  for (const group of groups) {
    const [only] = group;
    if (only && group.length === 1) {
      await writeReceipt(bucket, id.upload, receiptSubject(only.path), { ...only, at });
      continue;
    }
    const statuses = receiptStatuses.filter((candidate) =>
      group.some(({ status }) => status === candidate),
    );
    const key = batchReceiptKey(id, randomBytes(8).toString('hex'), statuses);
    await writeBestEffort(bucket, key, formatReceipts(group, at));
  }
}

/** Reads batch receipts and caches them, since they are never overwritten. */
export interface BatchReceiptReader {
  /**
   * Returns the receipts by key. A missing or damaged object has none, since its key does not
   * identify its paths.
   */
  readBatchReceipts(
    keys: readonly string[],
  ): Promise<ReadonlyMap<string, readonly SubjectReceipt[]>>;
}

const readsAtOnce = 32;

export function createBatchReceiptReader(bucket: Bucket): BatchReceiptReader {
  const known = new Map<string, readonly SubjectReceipt[]>();

  async function readOne(key: string): Promise<void> {
    try {
      const receipts = await readStoredJson(bucket, key, receiptFormat);
      if (receipts) known.set(key, receipts.flatMap(withSubject));
    } catch (error) {
      if (!isNicheError(error, 'malformed-receipt')) throw error;
      known.set(key, []);
    }
  }

  return {
    async readBatchReceipts(keys) {
      const unknown = keys.filter((key) => !known.has(key));
      await mapConcurrent(unknown, readsAtOnce, readOne);
      return new Map(keys.map((key) => [key, known.get(key) ?? []]));
    },
  };
}

function withSubject(receipt: Receipt): SubjectReceipt[] {
  return receipt.path === undefined ? [] : [{ ...receipt, subject: receiptSubject(receipt.path) }];
}
