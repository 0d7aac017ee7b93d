import * as z from 'zod';

import { describeIssues } from '../../core/cache/config.ts';
import { malformedEvent } from '../events/malformed.ts';
import type { TriggerRoot } from '../events/trigger.ts';
import { isTaskMessage, readTaskMessage, taskOfEvent } from '../shared/task.ts';
import type { Task } from '../shared/task.ts';

const createdType = 'Microsoft.Storage.BlobCreated';

/**
 * A CloudEvent of Event Grid, of which only the place of the blob is of interest: the account is the
 * last part of `source`, container and name are in `subject`.
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
});

/**
 * What is to be done for a message of the queue: Event Grid's, or one by which functions call each
 * other. Null for a blob that is no manifest of this cache.
 *
 * @param document the message's text, read as JSON where it is JSON
 * @throws NicheError `malformed-event`
 */
export function readTask(document: unknown, root: TriggerRoot): Task | null {
  if (isTaskMessage(document)) return readTaskMessage(document);
  const result = blobCreated.safeParse(document);
  if (!result.success) {
    throw malformedEvent(describeIssues(result.error, document));
  }
  const { source, subject, time } = result.data;
  const account = source.slice(source.lastIndexOf('/') + 1);
  const [, container = '', key = ''] =
    /^\/blobServices\/default\/containers\/([^/]+)\/blobs\/(.+)$/s.exec(subject) ?? [];
  return taskOfEvent({ bucket: `${account}/${container}`, key, time }, root);
}
