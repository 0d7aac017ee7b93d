import { randomUUID } from 'node:crypto';

import { isNicheError } from '../../errors.ts';
import type { NicheError, RejectionCode } from '../../errors.ts';
import type { PathInfo } from '../../nix/path-info.ts';
import type { Bucket } from '../../storage/bucket.ts';
import { receiptPrefix } from '../layout.ts';
import type { BatchId } from '../layout.ts';
import { writeBestEffort } from '../objects.ts';
import { writeReceipts } from '../receipts/batch-receipts.ts';
import { receiptSubject, rejectedOutcome, writeReceipt } from '../receipts/receipts.ts';
import type { Outcome } from '../receipts/receipts.ts';

/** The result of one path in one call of a publisher. */
export interface PublishResult {
  /** Null for a whole batch that was refused, and for a path whose pending record is damaged. */
  readonly path: string | null;
  /** In bytes; null where `path` is. */
  readonly narSize: number | null;
  readonly upload: string;
  readonly outcome: Outcome;
}

/** A path and its outcome. The path of a realisation is its name, and its NAR size is 0. */
export interface PathReport {
  readonly info: Pick<PathInfo, 'path' | 'narSize'>;
  readonly outcome: Outcome;
}

/**
 * Writes receipts. Each method returns once its receipts are stored. Receipts that can never be stored
 * become a warning in their results, see {@link writeOrGiveUp}.
 */
export interface Reporter {
  /** Writes the receipt of one path. */
  reportPath(upload: string, path: PathReport): Promise<PublishResult>;
  /** Writes the receipts of paths that a batch finished together. */
  reportPaths(id: BatchId, paths: readonly PathReport[]): Promise<PublishResult[]>;
  /**
   * Writes the rejection of paths whose names are unknown: their manifest or pending record is damaged.
   *
   * @param subject the batch's number, or a store hash
   */
  reportRejection(
    upload: string,
    subject: string,
    error: NicheError & { code: RejectionCode },
  ): Promise<PublishResult>;
}

/** Returns the result of a path, without writing a receipt. */
export function resultOf(upload: string, { info, outcome }: PathReport): PublishResult {
  const { path, narSize } = info;
  return { path, narSize, upload, outcome };
}

export function createReporter(bucket: Bucket, now: () => Date): Reporter {
  return {
    async reportPath(upload, path) {
      const receipt = { path: path.info.path, ...path.outcome, at: now().toISOString() };
      const refusal = await writeOrGiveUp(bucket, () =>
        writeReceipt(bucket, upload, receiptSubject(path.info.path), receipt),
      );
      return withWarning(resultOf(upload, path), refusal);
    },
    async reportPaths(id, paths) {
      const outcomes = paths.map(({ info: { path }, outcome }) => ({ path, ...outcome }));
      const at = now().toISOString();
      const refusal = await writeOrGiveUp(bucket, () => writeReceipts(bucket, id, outcomes, at));
      return paths.map((path) => withWarning(resultOf(id.upload, path), refusal));
    },
    async reportRejection(upload, subject, error) {
      const outcome = rejectedOutcome(error);
      const receipt = { ...outcome, at: now().toISOString() };
      const refusal = await writeOrGiveUp(bucket, () =>
        writeReceipt(bucket, upload, subject, receipt),
      );
      return withWarning({ path: null, narSize: null, upload, outcome }, refusal);
    },
  };
}

/**
 * Writes receipts. Gives them up where an uploader put something in their place: in a directory, a
 * file, a folder or a link. They are only messages, and their batch would be repeated for ever.
 *
 * @returns why they were given up; null when they are stored
 * @throws NicheError `storage-…`, also when no other receipt can be written
 */
async function writeOrGiveUp(
  bucket: Bucket,
  write: () => Promise<void>,
): Promise<NicheError | null> {
  const refusal = await findRefusal(write);
  if (!refusal) return null;
  const elsewhere = `${receiptPrefix(randomUUID())}probe`;
  if (await findRefusal(() => writeBestEffort(bucket, elsewhere, ''))) throw refusal;
  // A publisher may lack the right to delete receipts. A sweep deletes the probe with old ones.
  await findRefusal(() => bucket.delete([elsewhere]));
  // Again: the storage may have refused the first one because of rights that were just granted.
  return findRefusal(write);
}

/** Returns the error of `work` if it is about the place where it writes, or about its rights. */
async function findRefusal(work: () => Promise<void>): Promise<NicheError | null> {
  try {
    await work();
    return null;
  } catch (error) {
    if (isNicheError(error, 'invalid-key', 'storage-denied')) return error;
    throw error;
  }
}

/** Adds to the result, for the publisher's log, that its receipt was given up. */
function withWarning(result: PublishResult, refusal: NicheError | null): PublishResult {
  if (!refusal) return result;
  const { outcome } = result;
  const warning = `its receipt was given up: ${refusal.message}`;
  return { ...result, outcome: { ...outcome, warnings: [...(outcome.warnings ?? []), warning] } };
}
