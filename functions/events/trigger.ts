import type { Origin } from '../../core/cache/audit.ts';
import { parseManifestKey } from '../../core/cache/layout.ts';
import type { BatchId } from '../../core/cache/layout.ts';
import { isCreation } from './s3.ts';
import type { S3Event } from './s3.ts';

/** The private root of the cache that is published for, as its bucket's notifications name it. */
export interface TriggerRoot {
  readonly bucket: string;
  /** Empty, or ends in `/`. */
  readonly prefix: string;
}

/**
 * The batch whose manifest the event says has been created; null for all else that happens in the
 * bucket. The key is matched whole: `<prefix>staging/<upload>/<n>.json`.
 */
export function batchOf(event: S3Event, { bucket, prefix }: TriggerRoot): BatchId | null {
  if (event.bucket !== bucket || !event.key.startsWith(prefix) || !isCreation(event)) return null;
  return parseManifestKey(event.key.slice(prefix.length));
}

/** What the event tells of who staged the batch, for the audit. */
export function originOf({ principal, sourceAddress, time }: S3Event): Origin {
  return { via: 'event', principal, sourceAddress, at: time };
}

/**
 * Reads a storage URL that has bucket and prefix as `s3://bucket/prefix?…` has them; null for others,
 * whose storage sends no such notifications.
 */
export function triggerRootOf(storageUrl: string): TriggerRoot | null {
  const url = URL.parse(storageUrl);
  if (url?.protocol !== 's3:') return null;
  const prefix = url.pathname.replace(/^\/+|\/+$/g, '');
  return { bucket: url.host, prefix: prefix === '' ? '' : `${prefix}/` };
}
