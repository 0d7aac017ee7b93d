import { isRejection } from '../../errors.ts';
import type { NicheError, RejectionCode } from '../../errors.ts';
import { maxNamedMissing } from '../../limits.ts';
import type { Bucket } from '../../storage/bucket.ts';
import { receiptKey } from '../layout.ts';
import { createBestEffort, readText } from '../objects.ts';

/** What became of a staged path, weakest first: the strongest receipt is the one that holds. */
export const receiptStatuses = ['waiting', 'rejected', 'exists', 'published'] as const;

export type ReceiptStatus = (typeof receiptStatuses)[number];

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
export function rejectedOutcome({ code, message }: NicheError & { code: RejectionCode }): Outcome {
  return { status: 'rejected', code, message };
}

/** What `work` returns, or the outcome that a rejection thrown by it makes. */
export async function catchRejection<T>(work: () => Promise<T>): Promise<T | Outcome> {
  try {
    return await work();
  } catch (error) {
    if (isRejection(error)) return rejectedOutcome(error);
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
  await createBestEffort(bucket, receiptKey(upload, subject, receipt.status), JSON.stringify(body));
}

/** Whether a receipt with the status `one` holds over one with `other`. */
export function isStronger(one: ReceiptStatus, other: ReceiptStatus): boolean {
  return receiptStatuses.indexOf(one) > receiptStatuses.indexOf(other);
}

/** The receipt of `subject` alone with that status, null when there is none. */
export async function readReceipt(
  bucket: Bucket,
  upload: string,
  subject: string,
  status: ReceiptStatus,
): Promise<Receipt | null> {
  const text = await readText(bucket, receiptKey(upload, subject, status));
  // Only the publisher writes receipts, so their shape needs no second check; but a loss of power may
  // have left one empty.
  return text === null || text === '' ? null : (JSON.parse(text) as Receipt);
}
