import * as z from 'zod';

import { isCreation, readS3Events } from '../events/s3.ts';
import { parseEvent } from '../events/trigger.ts';
import type { TriggerRoot } from '../events/trigger.ts';
import { isJobMessage, parseJob, jobOfEvent } from '../shared/job.ts';
import type { Job } from '../shared/job.ts';

/** A message that SQS delivers to a function. */
export interface QueueMessage {
  readonly id: string;
  readonly receiptHandle: string;
  /** How often it has been received, this time included. */
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
 * Returns the messages of an SQS event; null for an event from elsewhere.
 *
 * @throws NicheError `malformed-event`
 */
export function queueMessages(event: unknown): QueueMessage[] | null {
  const first = z
    .object({ Records: z.array(z.object({ eventSource: z.string() })).min(1) })
    .safeParse(event).data?.Records[0];
  if (first?.eventSource !== 'aws:sqs') return null;
  return parseEvent(sqsEvent, event).Records.map(
    ({ messageId, receiptHandle, body, attributes }) => ({
      ...{ id: messageId, receiptHandle, body },
      count: attributes.ApproximateReceiveCount,
    }),
  );
}

/** The jobs of one notification or message, and its objects that are not manifests of this cache. */
export interface Jobs {
  readonly jobs: readonly Job[];
  readonly ignored: readonly { readonly bucket: string; readonly key: string }[];
}

/**
 * Reads a notification of S3 or EventBridge, or a job that another invocation sent.
 *
 * @throws NicheError `malformed-event`
 */
export function readJobs(document: unknown, root: TriggerRoot): Jobs {
  if (isJobMessage(document)) return { jobs: [parseJob(document)], ignored: [] };
  const jobs: Job[] = [];
  const ignored: { bucket: string; key: string }[] = [];
  for (const event of readS3Events(document)) {
    const job = isCreation(event) ? jobOfEvent(event, root) : null;
    if (job) jobs.push(job);
    else ignored.push({ bucket: event.bucket, key: event.key });
  }
  return { jobs, ignored };
}
