import * as z from 'zod';

import { maxDocumentBytes } from '../../limits.ts';
import type { Bucket } from '../../storage/bucket.ts';
import { createObject } from '../objects.ts';
import { readStoredJson } from '../stored-json.ts';
import type { JsonFormat } from '../stored-json.ts';

/** The contents of a marker: who reads it later learns when, why and what was withdrawn. */
export interface BlockedRecord {
  /** ISO 8601. */
  readonly at: string;
  /** For people. */
  readonly why: string;
  /** The full store path, if it was published. A purge needs this field and the next two. */
  readonly path?: string | undefined;
  readonly narHash?: string | undefined;
  readonly deriver?: string | null | undefined;
  /** The keys of the NARs that a purge deletes, since a CDN may keep them. */
  readonly narKeys?: readonly string[] | undefined;
}

const recordFormat: JsonFormat<BlockedRecord> = {
  code: 'malformed-config',
  schema: z.object({
    at: z.iso.datetime(),
    why: z.string(),
    path: z.string().optional(),
    narHash: z.string().optional(),
    deriver: z.string().nullable().optional(),
    narKeys: z.array(z.string()).optional(),
  }),
  maxBytes: maxDocumentBytes,
};

/** Creates a marker, unless it exists. */
export async function createRecord(
  bucket: Bucket,
  key: string,
  record: BlockedRecord,
): Promise<'created' | 'exists'> {
  return createObject(bucket, key, JSON.stringify(record));
}

/**
 * Reads a marker; null when it is missing.
 *
 * @throws NicheError `malformed-config`, `storage-…`
 */
export async function readRecord(bucket: Bucket, key: string): Promise<BlockedRecord | null> {
  return readStoredJson(bucket, key, recordFormat);
}
