import * as z from 'zod';

import type { ReportedOrigin } from '../../core/cache/audit.ts';
import { describeIssues } from '../../core/cache/stored-json.ts';
import { isStoreHash, isUploadId, parseWaitingKey, waitingKey } from '../../core/cache/layout.ts';
import type { BatchId, WaitingMarker } from '../../core/cache/layout.ts';
import { batchOf, malformedEvent, originOf } from '../events/trigger.ts';
import type { ObjectEvent, TriggerRoot } from '../events/trigger.ts';

/**
 * The work of one invocation: publish a batch, resume a path that waited for a reference, or withdraw
 * a path that was blocked while it was published.
 */
export type Job =
  | { readonly kind: 'publish'; readonly id: BatchId; readonly origin: ReportedOrigin }
  | { readonly kind: 'resume'; readonly waiting: WaitingMarker }
  | { readonly kind: 'withdraw'; readonly storeHash: string };

/** The queue that carries jobs to other invocations. */
export interface JobQueue {
  /** @throws NicheError `storage-unavailable`, `storage-denied` */
  send(job: Job): Promise<void>;
  /**
   * Returns whether the queue is empty. The count is approximate where the service's is.
   *
   * @throws NicheError `storage-unavailable`, `storage-denied`
   */
  isEmpty(): Promise<boolean>;
}

/** Returns the job for a new object; null for an object that is not a manifest of this cache. */
export function jobOfEvent(event: ObjectEvent, root: TriggerRoot): Job | null {
  const id = batchOf(event, root);
  return id && { kind: 'publish', id, origin: originOf(event) };
}

/** The version of the message format. */
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
      etag: text.optional(),
    })
    .optional(),
  /** The key of the waiting path's marker. */
  resume: text.optional(),
  /** The store hash of a blocked path. */
  withdraw: z.string().refine(isStoreHash, { error: 'expected a store hash' }).optional(),
});

/** Returns whether a document from a queue is a job, and not an event of the storage. */
export function isJobMessage(document: unknown): boolean {
  return typeof document === 'object' && document !== null && Object.hasOwn(document, 'niche');
}

/** Returns the message that {@link parseJob} reads. */
export function formatJob(job: Job): object {
  switch (job.kind) {
    case 'publish':
      return { niche: messageVersion, publish: { ...job.id, ...job.origin } };
    case 'resume':
      return { niche: messageVersion, resume: waitingKey(job.waiting) };
    case 'withdraw':
      return { niche: messageVersion, withdraw: job.storeHash };
  }
}

/**
 * Reads a job from its message.
 *
 * @throws NicheError `malformed-event`
 */
export function parseJob(document: unknown): Job {
  const result = message.safeParse(document);
  const { publish, resume, withdraw } = result.data ?? {};
  const given = [publish, resume, withdraw].filter((job) => job !== undefined);
  if (given.length === 1) {
    if (publish) {
      const { upload, batch, ...origin } = publish;
      return { kind: 'publish', id: { upload, batch }, origin };
    }
    const waiting = resume === undefined ? null : parseWaitingKey(resume);
    if (waiting) return { kind: 'resume', waiting };
    if (withdraw !== undefined) return { kind: 'withdraw', storeHash: withdraw };
  }
  throw malformedEvent(
    result.error
      ? describeIssues(result.error, document)
      : 'expected either a batch to publish, or a path to resume or to withdraw',
  );
}
