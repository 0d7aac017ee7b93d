import * as z from 'zod';

import { parseEvent } from '../events/trigger.ts';
import type { TriggerRoot } from '../events/trigger.ts';
import { isJobMessage, parseJob, jobOfEvent } from '../shared/job.ts';
import type { Job } from '../shared/job.ts';

const createdType = 'Microsoft.Storage.BlobCreated';

/**
 * A CloudEvent of Event Grid. Of the blob, its address and etag are used: the account is the last part of
 * `source`, the container and the name are in `subject`.
 *
 * @see https://learn.microsoft.com/azure/event-grid/event-schema-blob-storage
 */
const blobCreated = z.object({
  specversion: z.literal('1.0'),
  type: z.literal(createdType),
  source: z
    .string()
    .max(4096)
    .regex(/\/storageAccounts\/[^/]+$/i),
  subject: z
    .string()
    .max(4096)
    .regex(/^\/blobServices\/default\/containers\/[^/]+\/blobs\/.+$/s),
  time: z.string().max(64).optional(),
  data: z.object({ eTag: z.string().max(256).optional() }).optional(),
});

/**
 * Reads a message of the queue: an event of Event Grid, or a job that another invocation sent.
 * Returns null for a blob that is not a manifest of this cache.
 *
 * @param document the message, which the runtime has parsed if it is JSON
 * @throws NicheError `malformed-event`
 */
export function readJob(document: unknown, root: TriggerRoot): Job | null {
  if (isJobMessage(document)) return parseJob(document);
  const { source, subject, time, data } = parseEvent(blobCreated, document);
  const account = source.slice(source.lastIndexOf('/') + 1);
  const [, container = '', key = ''] =
    /^\/blobServices\/default\/containers\/([^/]+)\/blobs\/(.+)$/s.exec(subject) ?? [];
  return jobOfEvent({ bucket: `${account}/${container}`, key, time, etag: data?.eTag }, root);
}
