import { randomBytes } from 'node:crypto';
import * as z from 'zod';

import { mapConcurrent } from '../../util/concurrency.ts';
import { isNicheError } from '../../errors.ts';
import {
  maxBatchPaths,
  maxBatchReceiptBytes,
  maxNamedMissing,
  maxReceiptTextLength,
} from '../../limits.ts';
import { storeHash } from '../../nix/store-path.ts';
import type { Bucket } from '../../storage/bucket.ts';
import { batchReceiptKey } from '../layout.ts';
import type { BatchId } from '../layout.ts';
import { createBestEffort, readText } from '../objects.ts';
import { receiptStatuses, writeReceipt } from './receipts.ts';
import type { Outcome, Receipt } from './receipts.ts';

/**
 * A batch receipt tells of several paths that were concluded together: one object to write, to find
 * and to read, where there would be one for each path.
 */

/** What became of one path among others. */
export type PathOutcome = Outcome & { readonly path: string };

const batchReceiptVersion = 1;
const maxPathLength = 1024;
const maxWarnings = 16;

/** What people are shown: nothing in it moves a terminal's cursor. */
const text = z
  .string()
  .max(maxReceiptTextLength)
  .transform((value) => value.replace(/\p{Cc}+/gu, ' '));

const storePath = z.string().max(maxPathLength).refine(isStorePath);

const entry = z.object({
  path: storePath,
  status: z.enum(receiptStatuses),
  // A newer publisher may write codes that this release does not know.
  code: z
    .string()
    .regex(/^[a-z][a-z-]{0,63}$/)
    .optional(),
  message: text.optional(),
  missing: z.array(storePath).max(maxNamedMissing).optional(),
  warnings: z.array(text).max(maxWarnings).optional(),
});

const document = z.object({
  version: z.literal(batchReceiptVersion),
  at: z.iso.datetime(),
  receipts: z.array(entry).min(1).max(maxBatchPaths),
});

const overheadBytes = 128;

/**
 * Writes what became of these paths of the batch, under a key that nothing else has. What would make
 * the object too large is in another, and a path that would be alone in one has a receipt of its own.
 *
 * @param at when that was, ISO 8601
 */
export async function writeReceipts(
  bucket: Bucket,
  id: BatchId,
  outcomes: readonly PathOutcome[],
  at: string,
): Promise<void> {
  for (const group of grouped(outcomes)) {
    const [only] = group;
    if (only && group.length === 1) {
      await writeReceipt(bucket, id.upload, storeHash(only.path), { ...only, at });
      continue;
    }
    const statuses = receiptStatuses.filter((candidate) =>
      group.some(({ status }) => status === candidate),
    );
    const key = batchReceiptKey(id, randomBytes(8).toString('hex'), statuses);
    const body = JSON.stringify({ version: batchReceiptVersion, at, receipts: group });
    await createBestEffort(bucket, key, body);
  }
}

/** The outcomes as they share objects, within the bounds that readers keep. */
function grouped(outcomes: readonly PathOutcome[]): PathOutcome[][] {
  const groups: PathOutcome[][] = [];
  let company: PathOutcome[] = [];
  let bytes = overheadBytes;
  for (const { missing, ...rest } of outcomes) {
    const outcome = { ...rest, ...(missing ? { missing: missing.slice(0, maxNamedMissing) } : {}) };
    if (!entry.safeParse(outcome).success) {
      groups.push([outcome]);
      continue;
    }
    const entryBytes = Buffer.byteLength(JSON.stringify(outcome)) + 1;
    if (company.length === maxBatchPaths || bytes + entryBytes > maxBatchReceiptBytes) {
      groups.push(company);
      company = [];
      bytes = overheadBytes;
    }
    company.push(outcome);
    bytes += entryBytes;
  }
  return [...groups, company].filter(({ length }) => length > 0);
}

/** A receipt, and the store hash of its path. */
export type SubjectReceipt = Receipt & { readonly subject: string };

/** Reads batch receipts, each once: none is ever overwritten. */
export interface BatchReceiptReader {
  /** The receipts in the objects with these keys. */
  readBatchReceipts(
    keys: readonly string[],
  ): Promise<ReadonlyMap<string, readonly SubjectReceipt[]>>;
}

const readsAtOnce = 32;

export function createBatchReceiptReader(bucket: Bucket): BatchReceiptReader {
  const known = new Map<string, readonly SubjectReceipt[]>();
  return {
    async readBatchReceipts(keys) {
      const unknown = keys.filter((key) => !known.has(key));
      await mapConcurrent(unknown, readsAtOnce, async (key) => {
        const receipts = await readBatchReceipt(bucket, key);
        if (receipts) known.set(key, receipts);
      });
      return new Map(keys.map((key) => [key, known.get(key) ?? []]));
    },
  };
}

/** Null when it is gone; no receipt where it is damaged, as a loss of power may have left it. */
async function readBatchReceipt(bucket: Bucket, key: string): Promise<SubjectReceipt[] | null> {
  let text: string | null;
  try {
    text = await readText(bucket, key, maxBatchReceiptBytes);
  } catch (error) {
    if (isNicheError(error, 'oversized')) return [];
    throw error;
  }
  return text === null ? null : parseBatchReceipt(text);
}

/** The receipts in a batch receipt's text; none when it is not valid. */
export function parseBatchReceipt(text: string): SubjectReceipt[] {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return [];
  }
  const result = document.safeParse(json);
  if (!result.success) return [];
  const { at, receipts } = result.data;
  return receipts.map((receipt) => {
    return { ...(receipt as PathOutcome), subject: storeHash(receipt.path), at };
  });
}

function isStorePath(path: string): boolean {
  if (!path.startsWith('/') || /[\p{Cc}\p{Cf}]/u.test(path)) return false;
  try {
    storeHash(path);
    return true;
  } catch {
    return false;
  }
}
