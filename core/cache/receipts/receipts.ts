import * as z from 'zod';

import { isRejection } from '../../errors.ts';
import type { NicheError, RejectionCode } from '../../errors.ts';
import {
  maxBatchPaths,
  maxNamedMissing,
  maxReceiptBytes,
  maxReceiptTextLength,
  maxReceiptWarnings,
} from '../../limits.ts';
import { isRealisationName, realisationHash } from '../../nix/realisation.ts';
import { storeHash } from '../../nix/store-path.ts';
import type { Bucket } from '../../storage/bucket.ts';
import { receiptKey } from '../layout.ts';
import { writeBestEffort } from '../objects.ts';
import { readStoredJson } from '../stored-json.ts';
import type { JsonFormat } from '../stored-json.ts';

/** The statuses of a staged path, weakest first. Of several receipts the strongest holds. */
export const receiptStatuses = ['waiting', 'rejected', 'exists', 'published'] as const;

export type ReceiptStatus = (typeof receiptStatuses)[number];

/** The result of one staged path. Every status but `waiting` is final. */
export interface Outcome {
  readonly status: ReceiptStatus;
  /** A {@link RejectionCode}, or `upstream-unavailable`; a newer publisher may write others. */
  readonly code?: string;
  /** What was expected and what was found. */
  readonly message?: string;
  /** References that neither the cache nor an upstream has, at most {@link maxNamedMissing}. */
  readonly missing?: readonly string[];
  readonly warnings?: readonly string[];
}

export interface Receipt extends Outcome {
  /** The store path, or the name of a realisation. Absent when the manifest, the pending record or the receipt is damaged. */
  readonly path?: string;
  /** When it was written, ISO 8601. */
  readonly at: string;
}

const receiptVersion = 1;

const maxPathLength = 1024;

/** Without control characters, which could move a terminal's cursor. */
const text = z
  .string()
  .max(maxReceiptTextLength)
  .transform((value) => value.replace(/\p{Cc}+/gu, ' '));

/** A store path in any store directory. */
const storePath = z.string().max(maxPathLength).refine(isStorePath);
const subject = z.string().max(maxPathLength).refine(isSubject);

const outcome = z.object({
  path: subject.exactOptional(),
  status: z.enum(receiptStatuses),
  code: z
    .string()
    .regex(/^[a-z][a-z-]{0,63}$/)
    .exactOptional(),
  message: text.exactOptional(),
  missing: z.array(storePath).max(maxNamedMissing).exactOptional(),
  warnings: z.array(text).max(maxReceiptWarnings).exactOptional(),
});

/** Receipts of one path and batch receipts have the same format. */
export const receiptFormat: JsonFormat<Receipt[]> = {
  code: 'malformed-receipt',
  schema: z
    .object({
      version: z.literal(receiptVersion),
      at: z.iso.datetime(),
      receipts: z.array(outcome).min(1).max(maxBatchPaths),
    })
    .transform(({ at, receipts }) => receipts.map((receipt) => ({ ...receipt, at }))),
  maxBytes: maxReceiptBytes,
};

/** Returns the text of receipts that were written at the same time. */
export function formatReceipts(receipts: readonly Omit<Receipt, 'at'>[], at: string): string {
  return JSON.stringify({ version: receiptVersion, at, receipts });
}

/** Cuts the texts and lists of an outcome to what readers accept. */
export function clipOutcome<T extends Outcome>(outcome: T): T {
  const { message, missing, warnings } = outcome;
  return {
    ...outcome,
    ...(message === undefined ? {} : { message: clipText(message) }),
    ...(missing === undefined ? {} : { missing: missing.slice(0, maxNamedMissing) }),
    ...(warnings === undefined
      ? {}
      : { warnings: warnings.slice(0, maxReceiptWarnings).map(clipText) }),
  };
}

function clipText(value: string): string {
  return value.length > maxReceiptTextLength
    ? `${value.slice(0, maxReceiptTextLength - 1)}…`
    : value;
}

/** Returns the outcome of a path that was rejected with `error`. */
export function rejectedOutcome({
  code,
  message,
}: NicheError & { code: RejectionCode }): Outcome & { readonly code: RejectionCode } {
  return { status: 'rejected', code, message };
}

/** Runs `work` and turns a rejection that it throws into an outcome. */
export async function catchRejection<T>(work: () => Promise<T>): Promise<T | Outcome> {
  try {
    return await work();
  } catch (error) {
    if (isRejection(error)) return rejectedOutcome(error);
    throw error;
  }
}

/** Whether a path with this status keeps it. */
export function isFinal(status: ReceiptStatus): boolean {
  return status !== 'waiting';
}

/** Whether the status means that the public root has the path. A receipt alone does not prove it. */
export function isPublished(status: ReceiptStatus): boolean {
  return status === 'published' || status === 'exists';
}

/** Whether a receipt with status `one` overrides a receipt with status `other`. */
export function isStronger(one: ReceiptStatus, other: ReceiptStatus): boolean {
  return receiptStatuses.indexOf(one) > receiptStatuses.indexOf(other);
}

/**
 * Writes the receipt of one path. Replaces an object under its key: clients may be able to create one.
 *
 * @param subject the store hash, or the batch's number when a whole batch was refused
 */
export async function writeReceipt(
  bucket: Bucket,
  upload: string,
  subject: string,
  { at, ...receipt }: Receipt,
): Promise<void> {
  const body = formatReceipts([clipOutcome(receipt)], at);
  await writeBestEffort(bucket, receiptKey(upload, subject, receipt.status), body);
}

/**
 * Reads the receipt of `subject` with that status. Batch receipts are not read.
 *
 * @returns null when it is missing
 * @throws NicheError `malformed-receipt` when it is damaged, for example empty after a power loss;
 *   `storage-…` when it cannot be read
 */
export async function readReceipt(
  bucket: Bucket,
  upload: string,
  subject: string,
  status: ReceiptStatus,
): Promise<Receipt | null> {
  const key = receiptKey(upload, subject, status);
  const receipts = await readStoredJson(bucket, key, receiptFormat);
  return receipts?.[0] ?? null;
}

/** Returns the subject in the key of a receipt: the hash of a store path or of a realisation. */
export function receiptSubject(path: string): string {
  return isRealisationName(path) ? realisationHash(path) : storeHash(path);
}

function isSubject(text: string): boolean {
  return isStorePath(isRealisationName(text) ? text.slice(0, text.lastIndexOf('^')) : text);
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
