import { randomBytes } from 'node:crypto';

import type { PathInfo } from '../nix/path-info.ts';
import type { Bucket } from '../storage/bucket.ts';
import { auditPrefix } from './layout.ts';
import { createObject, readText } from './objects.ts';

/**
 * Who staged what, and which key signed it. It is written before the narinfo, so every visible
 * signature has its record; one without a narinfo is an attempt.
 */
export interface AuditRecord {
  readonly version: 1;
  /** ISO 8601. */
  readonly at: string;
  readonly path: string;
  readonly narHash: string;
  readonly narSize: number;
  readonly references: readonly string[];
  /** Store paths that the contents mention and the client did not claim. */
  readonly unclaimed: { readonly count: number; readonly first: readonly string[] };
  readonly signatures: readonly string[];
  /** `<key name>:<base64>` of each key that made one of `signatures`. */
  readonly signers: readonly string[];
  readonly upload: string;
  /** The release that checked and signed. */
  readonly publisher: string;
}

/** Stores one record under a name that nothing else has. */
export async function writeAudit(bucket: Bucket, record: AuditRecord): Promise<void> {
  const [day = '', time = ''] = record.at.split('T');
  const id = randomBytes(8).toString('hex');
  const key = `${auditPrefix}${day.replaceAll('-', '/')}/${time.replaceAll(':', '-')}-${id}.jsonl`;
  await createObject(bucket, key, `${JSON.stringify(record)}\n`);
}

/** Every record, oldest first. */
export async function* readAudit(bucket: Bucket): AsyncIterable<AuditRecord> {
  for await (const { key } of bucket.list(auditPrefix)) {
    const text = await readText(bucket, key);
    for (const line of text?.split('\n') ?? []) {
      if (line) yield JSON.parse(line) as AuditRecord;
    }
  }
}

/** The record's part that comes from the path itself. */
export function auditedPath(
  info: PathInfo,
): Pick<AuditRecord, 'path' | 'narHash' | 'narSize' | 'references'> {
  const { path, narHash, narSize, references } = info;
  return { path, narHash, narSize, references };
}
