import type { Origin } from '../../core/cache/audit.ts';
import { parseManifestKey } from '../../core/cache/layout.ts';
import type { BatchId } from '../../core/cache/layout.ts';

/** Something that happened to an object, as every cloud tells of it. */
export interface ObjectEvent {
  readonly bucket: string;
  /** As it is in the bucket, decoded. */
  readonly key: string;
  readonly principal?: string | undefined;
  readonly sourceAddress?: string | undefined;
  /** ISO 8601. */
  readonly time?: string | undefined;
}

/** The private root of the one cache that is published for, as its bucket's events name it. */
export interface TriggerRoot {
  readonly bucket: string;
  /** Empty, or ends in `/`. */
  readonly prefix: string;
}

/**
 * The batch whose manifest the new object is; null for all else in the bucket. The key is matched
 * whole: `<prefix>staging/<upload>/<n>.json`.
 */
export function batchOf(event: ObjectEvent, { bucket, prefix }: TriggerRoot): BatchId | null {
  if (event.bucket !== bucket || !event.key.startsWith(prefix)) return null;
  return parseManifestKey(event.key.slice(prefix.length));
}

/** What the event tells of who staged the batch, for the audit. */
export function originOf({ principal, sourceAddress, time }: ObjectEvent): Origin {
  return { via: 'event', principal, sourceAddress, at: time };
}
