import type { NicheError, RejectionCode } from '../../errors.ts';
import type { PathInfo } from '../../nix/path-info.ts';
import { storeHash } from '../../nix/store-path.ts';
import type { Bucket } from '../../storage/bucket.ts';
import type { BatchId } from '../layout.ts';
import { writeReceipts } from '../receipts/batch-receipts.ts';
import { rejectedOutcome, writeReceipt } from '../receipts/receipts.ts';
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

/** A path and its outcome. */
export interface PathReport {
  readonly info: PathInfo;
  readonly outcome: Outcome;
}

/** Writes receipts. Each method returns once its receipts are stored. */
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
      await writeReceipt(bucket, upload, storeHash(path.info.path), receipt);
      return resultOf(upload, path);
    },
    async reportPaths(id, paths) {
      const outcomes = paths.map(({ info: { path }, outcome }) => ({ path, ...outcome }));
      await writeReceipts(bucket, id, outcomes, now().toISOString());
      return paths.map((path) => resultOf(id.upload, path));
    },
    async reportRejection(upload, subject, error) {
      const outcome = rejectedOutcome(error);
      await writeReceipt(bucket, upload, subject, { ...outcome, at: now().toISOString() });
      return { path: null, narSize: null, upload, outcome };
    },
  };
}
