import type * as z from 'zod';

import type { ReportedOrigin } from '../../core/cache/audit.ts';
import { describeIssues } from '../../core/cache/stored-json.ts';
import { parseManifestKey } from '../../core/cache/layout.ts';
import type { BatchId } from '../../core/cache/layout.ts';
import { NicheError, messageOf, quote } from '../../core/errors.ts';
import { parseJson } from '../../core/util/json.ts';

/** A change of one object, in the terms that all clouds share. */
export interface ObjectEvent {
  readonly bucket: string;
  /** The decoded key. */
  readonly key: string;
  readonly principal?: string | undefined;
  readonly sourceAddress?: string | undefined;
  /** ISO 8601. */
  readonly time?: string | undefined;
  /** The object's etag as the storage reports it; its generation with Google. */
  readonly etag?: string | undefined;
}

/** The private root of the deployment's cache, as events of its bucket identify it. */
export interface TriggerRoot {
  readonly bucket: string;
  /** Empty, or ends in `/`. */
  readonly prefix: string;
}

/**
 * Returns the batch of a new manifest; null for every other object. The whole key must match
 * `<prefix>staging/<upload>/<n>.json`.
 */
export function batchOf(event: ObjectEvent, { bucket, prefix }: TriggerRoot): BatchId | null {
  if (event.bucket !== bucket || !event.key.startsWith(prefix)) return null;
  return parseManifestKey(event.key.slice(prefix.length));
}

/** Returns who staged the batch, for the audit log. */
export function originOf({ principal, sourceAddress, time, etag }: ObjectEvent): ReportedOrigin {
  return { via: 'event', principal, sourceAddress, at: time, etag };
}

/** Returns the error for an event that cannot be parsed. */
export function malformedEvent(reason: string, cause?: unknown): NicheError {
  return new NicheError('malformed-event', `reading an event: ${reason}`, { cause });
}

/**
 * Returns `document` if it matches the schema.
 *
 * @throws NicheError `malformed-event`
 */
export function parseEvent<T>(schema: z.ZodType<T>, document: unknown): T {
  const result = schema.safeParse(document);
  if (result.success) return result.data;
  throw malformedEvent(describeIssues(result.error, document));
}

/**
 * Parses the JSON body of a message.
 *
 * @throws NicheError `malformed-event`
 */
export function parseEventBody(body: string): unknown {
  try {
    return parseJson(body);
  } catch (cause) {
    throw malformedEvent(`expected JSON, got ${quote(body)}: ${messageOf(cause)}`, cause);
  }
}
