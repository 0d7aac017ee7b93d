import { createHmac, timingSafeEqual } from 'node:crypto';

import * as z from 'zod';

import { messageOf, quote } from '../../core/errors.ts';
import { parseJson } from '../../core/util/json.ts';
import { malformedEvent, parseEvent } from './trigger.ts';

/** A change of one object, from a bucket's notification. */
export interface S3Event {
  readonly bucket: string;
  /** The decoded key. */
  readonly key: string;
  /** The sender's own name of the event: `ObjectCreated:Put`, `PutObject`, `b2:ObjectCreated:Upload`, … */
  readonly eventName: string;
  /** The object's size, in bytes. */
  readonly size?: number;
  /** The user who changed the object, as the storage identifies users. */
  readonly principal?: string;
  /** The user's IP address. */
  readonly sourceAddress?: string;
  /** ISO 8601. */
  readonly time?: string;
  /** The object's etag, without quotes. */
  readonly etag?: string;
}

/** The largest notification that is parsed, in bytes: the limit of an SQS message. */
export const maxEventBytes = 1024 * 1024;

/** The most records of a notification. B2 sends up to 50, the others one. */
const maxRecords = 1000;

/**
 * Parses a notification of S3, EventBridge, MinIO, R2 or B2.
 *
 * @returns its events; none for the test events that S3 and B2 send when notifications are set up
 * @throws NicheError `malformed-event`, also for an unknown format: no event is dropped silently
 */
export function parseS3Events(text: string | Uint8Array): S3Event[] {
  if (text.length > maxEventBytes) {
    throw malformedEvent(`expected at most ${maxEventBytes} bytes, got ${text.length}`);
  }
  let document: unknown;
  try {
    document = parseJson(typeof text === 'string' ? text : Buffer.from(text).toString('utf8'));
  } catch (cause) {
    throw malformedEvent(`expected JSON: ${quote(messageOf(cause))}`, cause);
  }
  return readS3Events(document);
}

/** Does the same as {@link parseS3Events} for parsed JSON. */
export function readS3Events(document: unknown): S3Event[] {
  const shape = shapes.find(({ marks }) => hasFields(document, marks));
  if (shape) return shape.read(document);
  // A consumer of R2's queue forwards its messages to a webhook in batches.
  if (Array.isArray(document) && document.length <= maxRecords) return document.flatMap(fromR2);
  const fields = typeof document === 'object' && document !== null ? Object.keys(document) : [];
  const got = fields.length > 0 ? fields.slice(0, 8).map(quote).join(', ') : typeof document;
  throw malformedEvent(`expected a notification of S3, EventBridge, MinIO, R2 or B2; got ${got}`);
}

/** Returns whether the event reports a new or replaced object. */
export function isCreation({ eventName }: S3Event): boolean {
  return /ObjectCreated|Object Created|^(?:PutObject|CopyObject|CompleteMultipartUpload)$/.test(
    eventName,
  );
}

/**
 * Returns whether B2 sent the notification `body`. Its `x-bz-event-notification-signature` header is
 * `v1=` and the hex HMAC-SHA256 of the body.
 *
 * @see https://www.backblaze.com/docs/cloud-storage-event-notifications-reference-guide
 */
export function isSignedByB2(
  body: Uint8Array,
  signature: string | undefined,
  secret: string,
): boolean {
  const [, hex] = /^v1=([0-9a-f]{64})$/i.exec(signature ?? '') ?? [];
  if (hex === undefined) return false;
  const expected = createHmac('sha256', secret).update(body).digest();
  return timingSafeEqual(expected, Buffer.from(hex, 'hex'));
}

interface Shape {
  /** A combination of fields that no other shape has. */
  readonly marks: readonly string[];
  readonly read: (document: unknown) => S3Event[];
}

const shapes: readonly Shape[] = [
  { marks: ['Records'], read: fromRecords },
  { marks: ['Event', 'Bucket'], read: fromTestEvent },
  { marks: ['detail-type', 'detail'], read: fromEventBridge },
  { marks: ['events'], read: fromB2 },
  { marks: ['action', 'object'], read: (document) => [fromR2(document)] },
];

const text = z.string().min(1).max(4096);
const name = z.string().max(4096).optional();
const size = z.number().int().nonnegative();

/**
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
 */
const records = z.object({
  Records: z
    .array(
      z.object({
        eventName: text,
        eventTime: text.optional(),
        userIdentity: z.object({ principalId: name, PrincipalId: name }).optional(),
        requestParameters: z.object({ sourceIPAddress: name }).optional(),
        s3: z.object({
          bucket: z.object({ name: text }),
          // versitygw reports null for some objects.
          object: z.object({ key: text, size: size.optional(), eTag: name.nullable() }),
        }),
      }),
    )
    .min(1)
    .max(maxRecords),
});

/** The format of AWS, which MinIO, Ceph and versitygw follow. The key is form-encoded. */
function fromRecords(document: unknown): S3Event[] {
  return parseEvent(records, document).Records.map((record) => ({
    bucket: record.s3.bucket.name,
    key: decodeKey(record.s3.object.key),
    eventName: record.eventName,
    ...defined({
      size: record.s3.object.size,
      // versitygw spells it with a capital letter.
      principal: record.userIdentity?.principalId ?? record.userIdentity?.PrincipalId,
      sourceAddress: record.requestParameters?.sourceIPAddress,
      time: record.eventTime,
      etag: record.s3.object.eTag,
    }),
  }));
}

/** S3 sends it once, when its notifications are set up. */
const testEvent = z.object({ Event: z.literal('s3:TestEvent') });

function fromTestEvent(document: unknown): S3Event[] {
  parseEvent(testEvent, document);
  return [];
}

/** @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html */
const eventBridge = z.object({
  'detail-type': text,
  time: text.optional(),
  detail: z.object({
    bucket: z.object({ name: text }),
    object: z.object({ key: text, size: size.optional(), etag: name }),
    requester: name,
    'source-ip-address': name,
  }),
});

/** Unlike in S3's own notifications, the key is not encoded. */
function fromEventBridge(document: unknown): S3Event[] {
  const { detail, time, 'detail-type': eventName } = parseEvent(eventBridge, document);
  return [
    {
      bucket: detail.bucket.name,
      key: detail.object.key,
      eventName,
      ...defined({
        size: detail.object.size,
        principal: detail.requester,
        sourceAddress: detail['source-ip-address'],
        time,
        etag: detail.object.etag,
      }),
    },
  ];
}

/** @see https://developers.cloudflare.com/r2/buckets/event-notifications/#message-format */
const r2 = z.object({
  action: text,
  bucket: text,
  object: z.object({ key: text, size: size.optional(), eTag: name }),
  eventTime: text.optional(),
});

function fromR2(document: unknown): S3Event {
  const { action, bucket, object, eventTime } = parseEvent(r2, document);
  const { key } = object;
  const details = defined({ size: object.size, time: eventTime, etag: object.eTag });
  return { bucket, key, eventName: action, ...details };
}

const b2Test = z.object({ eventType: z.literal('b2:TestEvent') });

/** @see https://www.backblaze.com/docs/cloud-storage-event-notifications-reference-guide */
const b2 = z.object({
  eventType: text,
  bucketName: text,
  objectName: text,
  objectSize: size.nullish(),
  /** Milliseconds since 1970. */
  eventTimestamp: z.number().nonnegative().max(8.64e15).optional(),
});

function fromB2(document: unknown): S3Event[] {
  const { events } = parseEvent(
    z.object({ events: z.array(z.unknown()).max(maxRecords) }),
    document,
  );
  return events
    .filter((event) => !b2Test.safeParse(event).success)
    .map((event) => {
      const { eventType, bucketName, objectName, objectSize, eventTimestamp } = parseEvent(
        b2,
        event,
      );
      return {
        bucket: bucketName,
        key: objectName,
        eventName: eventType,
        ...defined({
          size: objectSize,
          time: eventTimestamp === undefined ? undefined : new Date(eventTimestamp).toISOString(),
        }),
      };
    });
}

/** Decodes a form-encoded key: `+` is a space, `%` starts a byte of UTF-8. */
function decodeKey(encoded: string): string {
  try {
    return decodeURIComponent(encoded.replaceAll('+', ' '));
  } catch (cause) {
    throw malformedEvent(`the key ${quote(encoded)} is not URL-encoded UTF-8`, cause);
  }
}

function hasFields(document: unknown, fields: readonly string[]): boolean {
  return (
    typeof document === 'object' &&
    document !== null &&
    fields.every((field) => Object.hasOwn(document, field))
  );
}

type Detail = 'size' | 'principal' | 'sourceAddress' | 'time' | 'etag';

/** Removes fields that are undefined or empty. */
function defined(fields: {
  [K in Detail]?: S3Event[K] | null | undefined;
}): Pick<S3Event, Detail> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => (value ?? '') !== ''));
}
