import { eachConcurrent } from '../../util/concurrency.ts';
import type { Bucket } from '../../storage/bucket.ts';
import { readAuditObject } from '../audit.ts';
import type { Finding } from './finding.ts';
import { auditPrefix } from '../layout.ts';

/** Compares visible signatures with the audit log. */
export interface AuditTrail {
  /** Expects a record of this signature of `path`. */
  expectRecord(path: string, signature: string): void;
  /**
   * Looks for the records of all expected signatures.
   *
   * @throws NicheError `storage-…` when the log cannot be read
   */
  verifyRecords(bucket: Bucket, onFinding: (finding: Finding) => void): Promise<void>;
}

const recordsAtOnce = 16;

/** Collect signatures first: a record is written before its signature becomes visible. */
export function createAuditTrail(): AuditTrail {
  const expected = new Map<string, string>();

  return {
    expectRecord(path, signature) {
      expected.set(signature, path);
    },
    async verifyRecords(bucket, onFinding) {
      await eachConcurrent(untilNone(bucket), recordsAtOnce, async (key) => {
        const { records, damage } = await readAuditObject(bucket, key);
        for (const { path, signatures } of records) {
          for (const signature of signatures) {
            if (expected.get(signature) === path) expected.delete(signature);
          }
        }
        for (const { message } of damage) {
          onFinding({ kind: 'wrong', subject: key, code: 'malformed-audit', message });
        }
      });
      for (const [signature, path] of expected) {
        const message = `the audit log has no record of its signature ${signature}`;
        onFinding({ kind: 'wrong', subject: path, code: 'missing-audit', message });
      }
    },
  };

  /** Lists the keys of the log until every expected record was found. */
  async function* untilNone(bucket: Bucket): AsyncIterable<string> {
    if (expected.size === 0) return;
    for await (const { key } of bucket.list(auditPrefix)) {
      yield key;
      if (expected.size === 0) return;
    }
  }
}
