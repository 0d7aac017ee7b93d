import * as z from 'zod';

import { describeIssues } from '../../core/cache/config.ts';
import { malformedEvent } from '../events/malformed.ts';
import { isCreation, readS3Events } from '../events/s3.ts';
import type { TriggerRoot } from '../events/trigger.ts';
import { isTaskMessage, readTaskMessage, taskOfEvent } from '../shared/task.ts';
import type { Task } from '../shared/task.ts';

/** A message as SQS hands it to a function. */
export interface QueueMessage {
  readonly id: string;
  readonly receiptHandle: string;
  /** How often it has been received by now. */
  readonly count: number;
  readonly body: string;
}

const text = z.string().min(1);

/** @see https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html */
const sqsEvent = z.object({
  Records: z
    .array(
      z.object({
        eventSource: z.literal('aws:sqs'),
        messageId: text,
        receiptHandle: text,
        body: z.string(),
        attributes: z.object({ ApproximateReceiveCount: z.coerce.number().int().min(1) }),
      }),
    )
    .max(10_000),
});

/**
 * The messages of an event that came by SQS; null for one that came otherwise.
 *
 * @throws NicheError `malformed-event`
 */
export function queueMessages(event: unknown): QueueMessage[] | null {
  const first = z
    .object({ Records: z.array(z.object({ eventSource: z.string() })).min(1) })
    .safeParse(event).data?.Records[0];
  if (first?.eventSource !== 'aws:sqs') return null;
  const result = sqsEvent.safeParse(event);
  if (!result.success) throw malformedEvent(describeIssues(result.error, event));
  return result.data.Records.map(({ messageId, receiptHandle, body, attributes }) => ({
    ...{ id: messageId, receiptHandle, body },
    count: attributes.ApproximateReceiveCount,
  }));
}

/** What is to be done for one notification or message, and what of it is not for this cache. */
export interface Tasks {
  readonly tasks: readonly Task[];
  readonly ignored: readonly { readonly bucket: string; readonly key: string }[];
}

/**
 * Reads S3's own notification, EventBridge's, or a message by which functions call each other.
 *
 * @throws NicheError `malformed-event`
 */
export function readTasks(document: unknown, root: TriggerRoot): Tasks {
  if (isTaskMessage(document)) return { tasks: [readTaskMessage(document)], ignored: [] };
  const tasks: Task[] = [];
  const ignored: { bucket: string; key: string }[] = [];
  for (const event of readS3Events(document)) {
    const task = isCreation(event) ? taskOfEvent(event, root) : null;
    if (task) tasks.push(task);
    else ignored.push({ bucket: event.bucket, key: event.key });
  }
  return { tasks, ignored };
}
