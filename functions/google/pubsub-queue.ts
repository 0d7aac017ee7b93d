import { messageOf } from '../../core/errors.ts';
import { anonymousGoogleAuth, createGoogleAuth } from '../../core/util/google-auth.ts';
import { createGoogleRest, GoogleResponseError } from '../../core/util/google-rest.ts';
import { createRetrier } from '../../core/util/retry.ts';
import type { Failure } from '../../core/util/retry.ts';
import { formatJob } from '../shared/job.ts';
import type { JobQueue } from '../shared/job.ts';
import { failureKindOf, queueFailure } from '../shared/queue-failure.ts';

export interface PubSubQueueOptions {
  /** `host:port` of an emulator, which takes requests without credentials. */
  readonly emulator?: string | undefined;
}

/** The topics of a deployment: `projects/…/topics/…`. */
export interface PubSubTopics {
  readonly wake: string;
  readonly withdrawals: string;
}

/**
 * Opens the deployment's Pub/Sub topics, over its REST API: Google's own client would bring gRPC for
 * one kind of request.
 *
 * @see https://cloud.google.com/pubsub/docs/reference/rest/v1/projects.topics/publish
 */
export function openPubSubQueue(
  topics: PubSubTopics,
  { emulator }: PubSubQueueOptions = {},
): JobQueue {
  const isEmulated = emulator !== undefined;
  const base = isEmulated ? `http://${emulator}` : 'https://pubsub.googleapis.com';
  const scope = 'https://www.googleapis.com/auth/pubsub';
  const rest = createGoogleRest({
    auth: isEmulated ? anonymousGoogleAuth : createGoogleAuth({ scope }),
  });
  const retrier = createRetrier({ maxConcurrency: 16 });

  return {
    async send(job) {
      const topic = job.kind === 'withdraw' ? topics.withdrawals : topics.wake;
      const data = Buffer.from(JSON.stringify(formatJob(job))).toString('base64');
      await retrier.run({
        action: 'sending to the topic',
        attempt: () => rest.call(`${base}/v1/${topic}:publish`, { messages: [{ data }] }),
        explain: (error) => explain(error, topic),
      });
    },
    // Pub/Sub reports its backlog only to Cloud Monitoring, minutes late. A job that is sent twice
    // finds its batch published.
    isEmpty: () => Promise.resolve(true),
  };
}

function explain(error: unknown, topic: string): Failure {
  const status = statusOf(error);
  const reason = `${status === 0 ? '' : `${status}: `}${messageOf(error)}`;
  return queueFailure(failureKindOf(status), `sending to the topic ${topic}: ${reason}`, error);
}

/** Returns the status of Google's response, or of the token endpoint's; 0 without a response. */
function statusOf(error: unknown): number {
  if (error instanceof GoogleResponseError) return error.status;
  return (error as { response?: { status?: number } }).response?.status ?? 0;
}
