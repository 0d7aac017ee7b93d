import { createHmac, timingSafeEqual } from 'node:crypto';

import * as z from 'zod';

import { describeIssues } from '../../core/cache/config.ts';
import { NicheError, messageOf, quote } from '../../core/errors.ts';

/** Something that happened to one object, as a bucket tells of it. */
export interface S3Event {
  readonly bucket: string;
  /** As it is in the bucket: decoded. */
  readonly key: string;
  /** In the sender's own words: `ObjectCreated:Put`, `PutObject`, `b2:ObjectCreated:Upload` … */
  readonly eventName: string;
  /** Of the object, in bytes. */
  readonly size?: number;
  /** Who did it, as the storage names its users. */
  readonly principal?: string;
  /** The IP address from which it was done. */
  readonly sourceAddress?: string;
  /** ISO 8601. */
  readonly time?: string;
}

/** The largest notification that is looked at, in bytes: the most that a queue of AWS carries. */
export const maxEventBytes = 1024 * 1024;

/** Of one notification; B2 puts up to 50 together, the others one. */
const maxRecords = 1000;

/**
 * Reads the text of a notification of S3, EventBridge, MinIO, R2 or B2.
 *
 * @returns what happened; nothing for the test events that S3 and B2 send when they are set up
 * @throws NicheError `malformed-event`: nothing is dropped unseen
 */
export function parseS3Events(text: string | Uint8Array): S3Event[] {
  if (text.length > maxEventBytes) {
    throw malformed(`expected at most ${maxEventBytes} bytes, it has ${text.length}`);
  }
  let document: unknown;
  try {
    document = JSON.parse(typeof text === 'string' ? text : Buffer.from(text).toString('utf8'));
  } catch (cause) {
    throw malformed(`it is not JSON: ${quote(messageOf(cause))}`, cause);
  }
  return readS3Events(document);
}

/** {@link parseS3Events} for a document whose JSON is parsed already. */
export function readS3Events(document: unknown): S3Event[] {
  const shape = shapes.find(({ marks }) => hasFields(document, marks));
  if (shape) return shape.read(document);
  // What forwards R2's queue to a webhook has its messages in batches.
  if (Array.isArray(document) && document.length <= maxRecords) return document.flatMap(fromR2);
  const fields = typeof document === 'object' && document !== null ? Object.keys(document) : [];
  const got = fields.length > 0 ? fields.slice(0, 8).map(quote).join(', ') : typeof document;
  throw malformed(`expected what S3, EventBridge, MinIO, R2 or B2 send; got ${got}`);
}

/** Whether the event is of an object that is there now and was not before, or not as it is. */
export function isCreation({ eventName }: S3Event): boolean {
  return /ObjectCreated|Object Created|^(?:PutObject|CopyObject|CompleteMultipartUpload)$/.test(
    eventName,
  );
}

/**
 * Whether B2 sent the notification `body`: its `x-bz-event-notification-signature` is
 * `v1=` and the HMAC-SHA256 of the body as hex.
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
  /** Fields that no other shape has together. */
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
          object: z.object({ key: text, size: size.optional() }),
        }),
      }),
    )
    .min(1)
    .max(maxRecords),
});

/** AWS's own, and those of MinIO, Ceph and versitygw, which follow it: the key is form-encoded. */
function fromRecords(document: unknown): S3Event[] {
  return checked(records, document).Records.map((record) => ({
    bucket: record.s3.bucket.name,
    key: decodeKey(record.s3.object.key),
    eventName: record.eventName,
    ...defined({
      size: record.s3.object.size,
      // versitygw writes it with a capital.
      principal: record.userIdentity?.principalId ?? record.userIdentity?.PrincipalId,
      sourceAddress: record.requestParameters?.sourceIPAddress,
      time: record.eventTime,
    }),
  }));
}

/** What S3 sends once, when its notifications are set up. */
const testEvent = z.object({ Event: z.literal('s3:TestEvent') });

function fromTestEvent(document: unknown): S3Event[] {
  checked(testEvent, document);
  return [];
}

/** @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html */
const eventBridge = z.object({
  'detail-type': text,
  time: text.optional(),
  detail: z.object({
    bucket: z.object({ name: text }),
    object: z.object({ key: text, size: size.optional() }),
    requester: name,
    'source-ip-address': name,
  }),
});

/** Here, unlike in S3's own notifications, the key is as it is in the bucket. */
function fromEventBridge(document: unknown): S3Event[] {
  const { detail, time, 'detail-type': eventName } = checked(eventBridge, document);
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
      }),
    },
  ];
}

/** @see https://developers.cloudflare.com/r2/buckets/event-notifications/#message-format */
const r2 = z.object({
  action: text,
  bucket: text,
  object: z.object({ key: text, size: size.optional() }),
  eventTime: text.optional(),
});

function fromR2(document: unknown): S3Event {
  const { action, bucket, object, eventTime } = checked(r2, document);
  const { key } = object;
  return { bucket, key, eventName: action, ...defined({ size: object.size, time: eventTime }) };
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
  const { events } = checked(z.object({ events: z.array(z.unknown()).max(maxRecords) }), document);
  return events
    .filter((event) => !b2Test.safeParse(event).success)
    .map((event) => {
      const { eventType, bucketName, objectName, objectSize, eventTimestamp } = checked(b2, event);
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

function checked<T>(schema: z.ZodType<T>, document: unknown): T {
  const result = schema.safeParse(document);
  if (result.success) return result.data;
  throw malformed(describeIssues(result.error, document));
}

/** A key in a URL's query: `+` is a space, all else is UTF-8 in percents. */
function decodeKey(encoded: string): string {
  try {
    return decodeURIComponent(encoded.replaceAll('+', ' '));
  } catch (cause) {
    throw malformed(`the key ${quote(encoded)} is not URL-encoded UTF-8`, cause);
  }
}

function hasFields(document: unknown, fields: readonly string[]): boolean {
  return (
    typeof document === 'object' &&
    document !== null &&
    fields.every((field) => Object.hasOwn(document, field))
  );
}

type Detail = 'size' | 'principal' | 'sourceAddress' | 'time';

/** Without the fields that are undefined or empty. */
function defined(fields: {
  [K in Detail]?: S3Event[K] | null | undefined;
}): Pick<S3Event, Detail> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => (value ?? '') !== ''));
}

function malformed(why: string, cause?: unknown): NicheError {
  return new NicheError('malformed-event', `a bucket's notification cannot be read: ${why}`, {
    cause,
  });
}
