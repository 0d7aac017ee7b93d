import { isRejection } from '../errors.ts';
import type { NicheError, RejectionCode } from '../errors.ts';
import { maxNamedMissing } from '../limits.ts';
import type { Bucket } from '../storage/bucket.ts';
import { receiptPrefix, receiptsPrefix } from './layout.ts';
import { createCourtesy, readText } from './objects.ts';

/** What became of a staged path, weakest first: the strongest receipt is the one that holds. */
const statuses = ['waiting', 'rejected', 'exists', 'published'] as const;

export type ReceiptStatus = (typeof statuses)[number];

/** What became of one staged path; `waiting` alone may still change. */
export interface Outcome {
  readonly status: ReceiptStatus;
  readonly code?: RejectionCode;
  /** What was expected and what came. */
  readonly message?: string;
  /** References that are neither here nor upstream, at most {@link maxNamedMissing} of them. */
  readonly missing?: readonly string[];
  readonly warnings?: readonly string[];
}

export interface Receipt extends Outcome {
  /** The store path; absent when a whole batch was refused before its paths could be read. */
  readonly path?: string;
  /** When it was written, ISO 8601. */
  readonly at: string;
}

/** What a rejection makes of its path. */
export function rejected({ code, message }: NicheError & { code: RejectionCode }): Outcome {
  return { status: 'rejected', code, message };
}

/** What `work` returns, or the outcome that a rejection thrown by it makes. */
export async function unlessRejected<T>(work: () => Promise<T>): Promise<T | Outcome> {
  try {
    return await work();
  } catch (error) {
    if (isRejection(error)) return rejected(error);
    throw error;
  }
}

/** Whether nothing more will become of a path with this status. */
export function isFinal(status: ReceiptStatus): boolean {
  return status !== 'waiting';
}

/**
 * Writes what became of a path; a receipt of the same status that is there already stays.
 *
 * @param subject the store hash, or the batch's number when a whole batch was refused
 */
export async function writeReceipt(
  bucket: Bucket,
  upload: string,
  subject: string,
  receipt: Receipt,
): Promise<void> {
  const body = receipt.missing
    ? { ...receipt, missing: receipt.missing.slice(0, maxNamedMissing) }
    : receipt;
  await createCourtesy(
    bucket,
    `${receiptPrefix(upload)}${subject}.${receipt.status}.json`,
    JSON.stringify(body),
  );
}

/** A receipt as its key tells of it. */
export interface ListedReceipt {
  readonly upload: string;
  /** The store hash, or the batch's number when a whole batch was refused. */
  readonly subject: string;
  readonly status: ReceiptStatus;
  /** In bytes. */
  readonly size: number;
  readonly modified: Date;
}

/** Every receipt of every upload, those of one subject one after the other: no document is read. */
export async function* listAllReceipts(
  bucket: Bucket,
  prefix = receiptsPrefix,
): AsyncIterable<ListedReceipt> {
  for await (const { key, size, modified } of bucket.list(prefix)) {
    const [upload = '', name = ''] = key.slice(receiptsPrefix.length).split('/');
    const [subject, text] = name.split('.');
    const status = statuses.find((candidate) => candidate === text);
    if (subject && status) yield { upload, subject, status, size, modified };
  }
}

/** The strongest receipt of each subject of the upload: one LIST, no document is read. */
export async function listStrongest(
  bucket: Bucket,
  upload: string,
): Promise<Map<string, ListedReceipt>> {
  const strongest = new Map<string, ListedReceipt>();
  for await (const receipt of listAllReceipts(bucket, receiptPrefix(upload))) {
    const before = strongest.get(receipt.subject);
    if (!before || isStronger(receipt.status, before.status)) {
      strongest.set(receipt.subject, receipt);
    }
  }
  return strongest;
}

/** The strongest status of each subject of the upload. */
export async function listReceipts(
  bucket: Bucket,
  upload: string,
): Promise<Map<string, ReceiptStatus>> {
  const strongest = await listStrongest(bucket, upload);
  return new Map([...strongest].map(([subject, { status }]) => [subject, status]));
}

/** Whether a receipt with the status `one` holds over one with `other`. */
export function isStronger(one: ReceiptStatus, other: ReceiptStatus): boolean {
  return statuses.indexOf(one) > statuses.indexOf(other);
}

/** The receipt of `subject` with that status, null when there is none. */
export async function readReceipt(
  bucket: Bucket,
  upload: string,
  subject: string,
  status: ReceiptStatus,
): Promise<Receipt | null> {
  const text = await readText(bucket, `${receiptPrefix(upload)}${subject}.${status}.json`);
  // Only the publisher writes receipts, so their shape needs no second check; but a loss of power may
  // have left one empty.
  return text === null || text === '' ? null : (JSON.parse(text) as Receipt);
}

/**
 * What a listed receipt of `path` says, null when it is gone. One that is no longer than its path,
 * status and time make it says nothing else and is not read: so it is with most that is published.
 */
export async function readListed(
  bucket: Bucket,
  { upload, subject, status, size, modified }: ListedReceipt,
  path: string,
): Promise<Outcome | null> {
  const bare: Receipt = { path, status, at: modified.toISOString() };
  const isIn = status === 'published' || status === 'exists';
  if (isIn && size === Buffer.byteLength(JSON.stringify(bare))) return { status };
  return readReceipt(bucket, upload, subject, status);
}
