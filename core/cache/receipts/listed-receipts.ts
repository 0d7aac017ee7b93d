import type { Bucket } from '../../storage/bucket.ts';
import { createBatchReceiptReader } from './batch-receipts.ts';
import type { BatchReceiptReader } from './batch-receipts.ts';
import { receiptPrefix, receiptsPrefix } from '../layout.ts';
import { isStronger, readReceipt, receiptStatuses } from './receipts.ts';
import type { Outcome, Receipt, ReceiptStatus } from './receipts.ts';

/** A receipt as a LIST tells of it. */
export interface ListedReceipt {
  readonly upload: string;
  /** The store hash, or the batch's number when a whole batch was refused. */
  readonly subject: string;
  readonly status: ReceiptStatus;
  /** In bytes, of its object. */
  readonly size: number;
  readonly modified: Date;
  /** What it says, where it has been read, as one of a batch receipt has. */
  readonly receipt?: Receipt;
}

/** A batch receipt as its key tells of it. */
interface ListedBatchReceipt {
  readonly key: string;
  /** Those that occur in it. */
  readonly statuses: readonly ReceiptStatus[];
  readonly size: number;
  readonly modified: Date;
}

/** What a LIST tells of one upload. */
export interface ListedUpload {
  readonly upload: string;
  /** By subject, the strongest of the receipts that tell of one alone. */
  readonly single: ReadonlyMap<string, ListedReceipt>;
  readonly batches: readonly ListedBatchReceipt[];
}

/** What `receipts/` has of each upload: no document is read. */
export async function* listUploadReceipts(
  bucket: Bucket,
  prefix = receiptsPrefix,
): AsyncIterable<ListedUpload> {
  let upload = '';
  let single = new Map<string, ListedReceipt>();
  let batches: ListedBatchReceipt[] = [];
  for await (const { key, size, modified } of bucket.list(prefix)) {
    const [of = '', name = ''] = key.slice(receiptsPrefix.length).split('/');
    if (of !== upload) {
      if (single.size + batches.length > 0) yield { upload, single, batches };
      upload = of;
      single = new Map();
      batches = [];
    }
    const [subject = '', status, statuses] = parseName(name);
    if (status) keepStrongest(single, { upload, subject, status, size, modified });
    else if (statuses) batches.push({ key, statuses, size, modified });
  }
  if (single.size + batches.length > 0) yield { upload, single, batches };
}

const batchName = /^(?:0|[1-9][0-9]{0,8})\.[0-9a-f]{16}\.([a-z-]+)\.json$/;

function parseName(
  name: string,
): [] | [subject: string, status: ReceiptStatus] | [string, undefined, ReceiptStatus[]] {
  const [subject = '', text] = name.split('.');
  const status = receiptStatuses.find((candidate) => candidate === text);
  if (subject !== '' && status) return [subject, status];
  const names = batchName.exec(name)?.[1]?.split('-');
  return names ? ['', undefined, receiptStatuses.filter((each) => names.includes(each))] : [];
}

/** Of equal ones the first stays. */
function keepStrongest(strongest: Map<string, ListedReceipt>, receipt: ListedReceipt): void {
  const before = strongest.get(receipt.subject);
  if (!before || isStronger(receipt.status, before.status)) {
    strongest.set(receipt.subject, receipt);
  }
}

/** The strongest receipt of each subject of a listed upload; only its batch receipts are read. */
export async function selectStrongest(
  { upload, single, batches }: ListedUpload,
  reader: BatchReceiptReader,
): Promise<Map<string, ListedReceipt>> {
  const strongest = new Map(single);
  const read = await reader.readBatchReceipts(batches.map(({ key }) => key));
  for (const { key, size, modified } of batches) {
    for (const { subject, ...receipt } of read.get(key) ?? []) {
      const { status } = receipt;
      keepStrongest(strongest, { upload, subject, status, size, modified, receipt });
    }
  }
  return strongest;
}

/**
 * The strongest receipt of each subject of the upload: one LIST, and a GET for each batch receipt
 * that `reader` has not read yet.
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

/** The strongest status of each subject of the upload. */
export async function listStatuses(
  bucket: Bucket,
  upload: string,
): Promise<Map<string, ReceiptStatus>> {
  const strongest = await listStrongestReceipts(bucket, upload);
  return new Map([...strongest].map(([subject, { status }]) => [subject, status]));
}

/** The listed receipt whole; null when it is gone. */
export async function readListedReceipt(
  bucket: Bucket,
  listed: ListedReceipt,
): Promise<Receipt | null> {
  const { upload, subject, status, receipt } = listed;
  return receipt ?? readReceipt(bucket, upload, subject, status);
}

/**
 * What a listed receipt of `path` says, null when it is gone. One that is no longer than its path,
 * status and time make it says nothing else and is not read: so it is with most that is published.
 */
export async function readListedOutcome(
  bucket: Bucket,
  listed: ListedReceipt,
  path: string,
): Promise<Outcome | null> {
  const { status, size, modified, receipt } = listed;
  const bare: Receipt = { path, status, at: modified.toISOString() };
  const isIn = status === 'published' || status === 'exists';
  const isBare = isIn && !receipt && size === Buffer.byteLength(JSON.stringify(bare));
  return isBare ? { status } : readListedReceipt(bucket, listed);
}
