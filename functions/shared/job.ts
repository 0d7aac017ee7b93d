import * as z from 'zod';

import type { Origin } from '../../core/cache/audit.ts';
import { describeIssues } from '../../core/cache/config.ts';
import { isUploadId, parseWaitingKey, waitingKey } from '../../core/cache/layout.ts';
import type { BatchId, Waiting } from '../../core/cache/layout.ts';
import { NicheError } from '../../core/errors.ts';
import { batchOf, originOf } from '../events/trigger.ts';
import type { ObjectEvent, TriggerRoot } from '../events/trigger.ts';

/** What a function is called for. */
export type Task =
  | { readonly kind: 'publish'; readonly id: BatchId; readonly origin: Origin }
  | { readonly kind: 'resume'; readonly waiting: Waiting };

/** The task that a new object makes; null when it is no manifest of this cache. */
export function taskOfEvent(event: ObjectEvent, root: TriggerRoot): Task | null {
  const id = batchOf(event, root);
  return id && { kind: 'publish', id, origin: originOf(event) };
}

/** The version of the messages by which functions call each other. */
const messageVersion = 1;

const text = z.string().max(4096);

const message = z.strictObject({
  niche: z.literal(messageVersion),
  publish: z
    .strictObject({
      upload: z.string().refine(isUploadId, { error: 'expected an upload id' }),
      batch: z.int().min(0).max(999_999_999),
      via: z.enum(['event', 'sweep']),
      principal: text.optional(),
      sourceAddress: text.optional(),
      at: text.optional(),
    })
    .optional(),
  /** The key of the marker by which the path waits. */
  resume: text.optional(),
});

/** Whether a document from a queue is one of niche's own messages. */
export function isTaskMessage(document: unknown): boolean {
  return typeof document === 'object' && document !== null && Object.hasOwn(document, 'niche');
}

/** The message that {@link readTaskMessage} reads. */
export function taskMessage(task: Task): object {
  return task.kind === 'resume'
    ? { niche: messageVersion, resume: waitingKey(task.waiting) }
    : { niche: messageVersion, publish: { ...task.id, ...task.origin } };
}

/** @throws NicheError `malformed-event` */
export function readTaskMessage(document: unknown): Task {
  const result = message.safeParse(document);
  const { publish, resume } = result.data ?? {};
  if (publish && resume === undefined) {
    const { upload, batch, ...origin } = publish;
    return { kind: 'publish', id: { upload, batch }, origin };
  }
  const waiting = resume !== undefined && !publish ? parseWaitingKey(resume) : null;
  if (waiting) return { kind: 'resume', waiting };
  throw new NicheError(
    'malformed-event',
    `a message of niche's own is not valid: ${result.error ? describeIssues(result.error, document) : 'expected either a batch to publish or a path to resume'}`,
  );
}
