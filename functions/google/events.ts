import * as z from 'zod';

import { quote } from '../../core/errors.ts';
import { malformedEvent, parseEvent, parseEventBody } from '../events/trigger.ts';
import type { TriggerRoot } from '../events/trigger.ts';
import { parseJob, jobOfEvent } from '../shared/job.ts';
import type { Job } from '../shared/job.ts';

/** The used fields of a CloudEvent. The framework parses both HTTP modes of CloudEvents. */
export interface CloudEvent {
  readonly id?: string | undefined;
  readonly type?: string | undefined;
  readonly time?: string | undefined;
  readonly data?: unknown;
}

export const finalizedType = 'google.cloud.storage.object.v1.finalized';
export const messagePublishedType = 'google.cloud.pubsub.topic.v1.messagePublished';

const text = z.string().min(1).max(4096);

/** `StorageObjectData`. The generation identifies one version of the object. */
const storageObject = z.object({
  bucket: text,
  name: text,
  generation: z
    .union([z.string().max(64), z.int()])
    .transform(String)
    .optional(),
});

/** `MessagePublishedData`, the body of a push subscription's request. Its data is base64. */
const messagePublished = z.object({ message: z.object({ data: z.base64().max(1024 * 1024) }) });

/**
 * Reads an event of the staging bucket, or a job that another invocation sent. Returns null for an
 * object that is not a manifest of this cache: Eventarc filters by bucket only.
 *
 * @throws NicheError `malformed-event`
 * @see https://github.com/googleapis/google-cloudevents
 */
export function readJob(event: CloudEvent, root: TriggerRoot): Job | null {
  switch (event.type ?? '') {
    case finalizedType: {
      const { bucket, name, generation } = parseEvent(storageObject, event.data);
      return jobOfEvent({ bucket, key: name, time: event.time, etag: generation }, root);
    }
    case messagePublishedType:
      return readMessage(event.data);
    default:
      throw malformedEvent(
        `expected type ${finalizedType} or ${messagePublishedType}, got ${quote(event.type ?? '')}`,
      );
  }
}

/**
 * Reads the withdrawal in the body of a push subscription's request. Returns null for another body, such
 * as the empty one of the scheduler.
 *
 * @throws NicheError `malformed-event`
 */
export function readWithdrawal(body: unknown): Job | null {
  const isPush = typeof body === 'object' && body !== null && Object.hasOwn(body, 'message');
  if (!isPush) return null;
  const job = readMessage(body);
  // The sweep deletes public objects, so it reads nothing that clients stage.
  if (job.kind !== 'withdraw') throw malformedEvent('expected a path to withdraw');
  return job;
}

function readMessage(data: unknown): Job {
  const { message } = parseEvent(messagePublished, data);
  return parseJob(parseEventBody(Buffer.from(message.data, 'base64').toString()));
}
