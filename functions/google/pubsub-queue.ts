import { NicheError, messageOf } from '../../core/errors.ts';
import { createRetrier } from '../../core/util/retry.ts';
import type { Failure } from '../../core/util/retry.ts';
import { formatJob } from '../shared/job.ts';
import type { JobQueue } from '../shared/job.ts';

/** As much of google-auth-library's `AuthClient` as is used. */
export interface RequestClient {
  request(options: {
    readonly url: string;
    readonly method: 'POST';
    readonly data: object;
    readonly timeout: number;
    readonly retry: boolean;
  }): Promise<unknown>;
}

export interface PubSubQueueOptions {
  /** Sends authorized requests; else one is made of the ambient credentials on first use. */
  readonly client?: RequestClient | undefined;
  /** `host:port` of an emulator, which takes requests without credentials. */
  readonly emulator?: string | undefined;
}

/** For one answer, in milliseconds. */
const timeoutMs = 10_000;

/**
 * The deployment's topic in Pub/Sub, over its REST interface: one kind of request is no reason for
 * the client's gRPC. `send` throws NicheError `storage-unavailable`, `storage-denied`.
 *
 * @param topic `projects/…/topics/…`
 * @see https://cloud.google.com/pubsub/docs/reference/rest/v1/projects.topics/publish
 */
export function openPubSubQueue(topic: string, options: PubSubQueueOptions = {}): JobQueue {
  const { emulator } = options;
  const base = emulator === undefined ? 'https://pubsub.googleapis.com' : `http://${emulator}`;
  const retrier = createRetrier({ maxConcurrency: 16 });
  let opened: Promise<RequestClient> | undefined;

  async function open(): Promise<RequestClient> {
    if (options.client) return options.client;
    const { GoogleAuth, PassThroughClient } = await import('google-auth-library');
    if (emulator !== undefined) return new PassThroughClient();
    return new GoogleAuth({ scopes: 'https://www.googleapis.com/auth/pubsub' }).getClient();
  }

  return {
    async send(job) {
      const data = Buffer.from(JSON.stringify(formatJob(job))).toString('base64');
      await retrier.run({
        action: 'sending to',
        async attempt() {
          const client = await (opened ??= open());
          await client.request({
            url: `${base}/v1/${topic}:publish`,
            method: 'POST',
            data: { messages: [{ data }] },
            timeout: timeoutMs,
            // Retries are the retrier's: the library's own would multiply them.
            retry: false,
          });
        },
        explain: (error) => explain(error, topic),
      });
    },
    // Pub/Sub tells its backlog to Cloud Monitoring alone, minutes late. What is sent twice is only
    // found handled the second time.
    isEmpty: () => Promise.resolve(true),
  };
}

function explain(error: unknown, topic: string): Failure {
  const response = (error as { response?: { status?: unknown } }).response;
  const status = Number(response?.status ?? 0);
  const isThrottled = status === 429;
  const isFinal = status >= 400 && status < 500 && !isThrottled && status !== 408;
  const failure = new NicheError(
    isFinal ? 'storage-denied' : 'storage-unavailable',
    `sending to the topic ${topic}: ${status === 0 ? '' : `${status}: `}${messageOf(error)}`,
    { cause: error },
  );
  return { kind: isThrottled ? 'throttled' : isFinal ? 'final' : 'transient', error: failure };
}
