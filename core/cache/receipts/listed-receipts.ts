import { isNicheError } from '../../errors.ts';
import type { Bucket } from '../../storage/bucket.ts';
import { receiptPrefix, receiptsPrefix } from '../layout.ts';
import { createBatchReceiptReader } from './batch-receipts.ts';
import type { BatchReceiptReader } from './batch-receipts.ts';
import {
  formatReceipts,
  isPublished,
  isStronger,
  readReceipt,
  receiptStatuses,
} from './receipts.ts';
import type { Outcome, Receipt, ReceiptStatus } from './receipts.ts';

/** A receipt, as far as a LIST shows it. */
export interface ListedReceipt {
  readonly upload: string;
  /** The store hash, or the batch's number when a whole batch was refused. */
  readonly subject: string;
  readonly status: ReceiptStatus;
  /** The size of its object, in bytes. */
  readonly size: number;
  readonly modified: Date;
  /** The receipt itself, when it comes from a batch receipt. */
  readonly receipt?: Receipt;
}

/** A batch receipt, as far as a LIST shows it. */
interface ListedBatchReceipt {
  readonly key: string;
  /** The statuses that occur in it. */
  readonly statuses: readonly ReceiptStatus[];
  readonly size: number;
  readonly modified: Date;
}

/** The receipts of one upload, as far as a LIST shows them. */
export interface ListedUpload {
  readonly upload: string;
  /** The strongest receipt of each subject, by subject. Batch receipts are not counted. */
  readonly single: ReadonlyMap<string, ListedReceipt>;
  readonly batches: readonly ListedBatchReceipt[];
}

/** Lists the receipts of each upload. Reads no object. */
export async function* listUploadReceipts(
  bucket: Bucket,
  prefix = receiptsPrefix,
): AsyncIterable<ListedUpload> {
  let current = '';
  let single = new Map<string, ListedReceipt>();
  let batches: ListedBatchReceipt[] = [];
  for await (const { key, size, modified } of bucket.list(prefix)) {
    const [upload = '', name = ''] = key.slice(receiptsPrefix.length).split('/');
    if (upload !== current) {
      if (single.size + batches.length > 0) yield { upload: current, single, batches };
      current = upload;
      single = new Map();
      batches = [];
    }
    const parsed = parseName(name);
    if (parsed?.kind === 'single') {
      const { subject, status } = parsed;
      keepStrongest(single, { upload, subject, status, size, modified });
    } else if (parsed?.kind === 'batch') {
      batches.push({ key, statuses: parsed.statuses, size, modified });
    }
  }
  if (single.size + batches.length > 0) yield { upload: current, single, batches };
}

type ReceiptName =
  | { readonly kind: 'single'; readonly subject: string; readonly status: ReceiptStatus }
  | { readonly kind: 'batch'; readonly statuses: readonly ReceiptStatus[] };

const batchNameGrammar = /^(?:0|[1-9][0-9]{0,8})\.[0-9a-f]{16}\.([a-z-]+)\.json$/;

/** Parses the last component of a receipt's key; null for other names. */
function parseName(name: string): ReceiptName | null {
  const [subject = '', text] = name.split('.');
  const status = receiptStatuses.find((candidate) => candidate === text);
  if (subject !== '' && status) return { kind: 'single', subject, status };
  const texts = batchNameGrammar.exec(name)?.[1]?.split('-');
  if (!texts) return null;
  return { kind: 'batch', statuses: receiptStatuses.filter((each) => texts.includes(each)) };
}

/** Of two receipts with the same status, the first stays. */
function keepStrongest(strongest: Map<string, ListedReceipt>, receipt: ListedReceipt): void {
  const before = strongest.get(receipt.subject);
  if (!before || isStronger(receipt.status, before.status)) {
    strongest.set(receipt.subject, receipt);
  }
}

/** Returns the strongest receipt of each subject. Reads the upload's batch receipts. */
export async function selectStrongest(
  { upload, single, batches }: ListedUpload,
  reader: BatchReceiptReader,
): Promise<Map<string, ListedReceipt>> {
  const strongest = new Map(single);
  const receiptsByKey = await reader.readBatchReceipts(batches.map(({ key }) => key));
  for (const { key, size, modified } of batches) {
    for (const { subject, ...receipt } of receiptsByKey.get(key) ?? []) {
      const { status } = receipt;
      keepStrongest(strongest, { upload, subject, status, size, modified, receipt });
    }
  }
  return strongest;
}

/**
 * Lists the strongest receipt of each subject of the upload: one LIST, and a GET for each batch
 * receipt that `reader` has not read yet.
 */
export async function listStrongestReceipts(
  bucket: Bucket,
  upload: string,
  reader: BatchReceiptReader = createBatchReceiptReader(bucket),
): Promise<Map<string, ListedReceipt>> {
  for await (const listed of listUploadReceipts(bucket, receiptPrefix(upload))) {
    return selectStrongest(listed, reader);
  }
  return new Map();
}

/** Lists the strongest status of each subject of the upload. */
export async function listStatuses(
  bucket: Bucket,
  upload: string,
): Promise<Map<string, ReceiptStatus>> {
  const strongest = await listStrongestReceipts(bucket, upload);
  return new Map([...strongest].map(([subject, { status }]) => [subject, status]));
}

/**
 * Reads a listed receipt; null when it is gone. A damaged receipt keeps the status that its key
 * gives, and its message reports the damage.
 */
export async function readListedReceipt(
  bucket: Bucket,
  { upload, subject, status, modified, receipt }: ListedReceipt,
): Promise<Receipt | null> {
  if (receipt) return receipt;
  try {
    return await readReceipt(bucket, upload, subject, status);
  } catch (error) {
    if (!isNicheError(error, 'malformed-receipt')) throw error;
    return { status, message: error.message, at: modified.toISOString() };
  }
}

/**
 * Reads the outcome of `path` from its listed receipt; null when the receipt is gone. Does not read
 * a receipt that is too short to hold more than a status, as those of most published paths are.
 */
export async function readListedOutcome(
  bucket: Bucket,
  listed: ListedReceipt,
  path: string,
): Promise<Outcome | null> {
  const { status, size, modified, receipt } = listed;
  const bare = formatReceipts([{ path, status }], modified.toISOString());
  const isBare = isPublished(status) && !receipt && size === Buffer.byteLength(bare);
  return isBare ? { status } : readListedReceipt(bucket, listed);
}
