import * as z from 'zod';

import { describeIssues } from '../../core/cache/config.ts';
import { quote } from '../../core/errors.ts';
import { malformedEvent, parseEventBody } from '../events/malformed.ts';
import type { TriggerRoot } from '../events/trigger.ts';
import { readTaskMessage, taskOfEvent } from '../shared/task.ts';
import type { Task } from '../shared/task.ts';

/** As much of a CloudEvent as is looked at; the framework has read either of its two modes. */
export interface CloudEvent {
  readonly id?: string | undefined;
  readonly type?: string | undefined;
  readonly time?: string | undefined;
  readonly data?: unknown;
}

export const finalizedType = 'google.cloud.storage.object.v1.finalized';
export const messagePublishedType = 'google.cloud.pubsub.topic.v1.messagePublished';

const text = z.string().min(1).max(4096);

/** `StorageObjectData`, of which only the place of the object is of interest. */
const storageObject = z.object({ bucket: text, name: text });

/** `MessagePublishedData`, whose data is base64. */
const messagePublished = z.object({ message: z.object({ data: z.base64().max(1024 * 1024) }) });

/**
 * What is to be done for an event: one of the private bucket, or a message by which functions call
 * each other. Null for an object that is no manifest of this cache: Eventarc filters by bucket only.
 *
 * @throws NicheError `malformed-event`
 * @see https://github.com/googleapis/google-cloudevents
 */
export function readTask(event: CloudEvent, root: TriggerRoot): Task | null {
  switch (event.type ?? '') {
    case finalizedType: {
      const { bucket, name } = parse(storageObject, event.data);
      return taskOfEvent({ bucket, key: name, time: event.time }, root);
    }
    case messagePublishedType: {
      const { message } = parse(messagePublished, event.data);
      return readTaskMessage(parseEventBody(Buffer.from(message.data, 'base64').toString()));
    }
    default:
      throw malformedEvent(
        `expected the type ${finalizedType} or ${messagePublishedType}, got ${quote(event.type ?? '')}`,
      );
  }
}

function parse<T>(schema: z.ZodType<T>, data: unknown): T {
  const result = schema.safeParse(data);
  if (!result.success) throw malformedEvent(describeIssues(result.error, data));
  return result.data;
}
