import type { SQSClient } from '@aws-sdk/client-sqs';

import { messageOf } from '../../core/errors.ts';
import { credentialsBehindProxy, transportHandler } from '../../core/util/aws-handler.ts';
import { createRetrier } from '../../core/util/retry.ts';
import type { Failure } from '../../core/util/retry.ts';
import { createTransport } from '../../core/util/transport.ts';
import { formatJob } from '../shared/job.ts';
import type { JobQueue } from '../shared/job.ts';
import { queueFailure } from '../shared/queue-failure.ts';
import type * as SdkModule from './sqs-sdk.ts';

/** The deployment's SQS queue. */
export interface SqsQueue extends JobQueue {
  /**
   * Delivers a message again soon: after 15 seconds the first time, then after twice as long each
   * time, up to 15 minutes.
   *
   * @param count how often the message has been received
   * @throws NicheError `storage-unavailable`, `storage-denied`
   */
  retrySoon(receiptHandle: string, count: number): Promise<void>;
}

const firstRetrySeconds = 15;
const maxRetrySeconds = 15 * 60;
/** Without a byte in either direction, in milliseconds. */
const idleTimeoutMs = 10_000;

/** @param client by default one is created on first use */
export function openSqsQueue(url: string, client?: SQSClient): SqsQueue {
  const retrier = createRetrier({ maxConcurrency: 16 });
  let opened: Promise<Sdk> | undefined;

  async function open(): Promise<Sdk> {
    const sdk = await import('./sqs-sdk.ts');
    const requestHandler = transportHandler(sdk, createTransport(idleTimeoutMs));
    const options = {
      requestHandler,
      ...credentialsBehindProxy(requestHandler),
      // The retrier retries. Retries of the SDK would multiply its attempts.
      maxAttempts: 1,
    };
    return { ...sdk, client: client ?? new sdk.SQSClient(options) };
  }

  async function request<T>(action: string, send: (sdk: Sdk) => Promise<T>): Promise<T> {
    const sdk = await (opened ??= open());
    return retrier.run({
      action,
      attempt: () => send(sdk),
      explain: (error) => explain(error, `${action} the queue ${url}`),
    });
  }

  return {
    async send(job) {
      await request('sending to', ({ client, SendMessageCommand }) =>
        client.send(
          new SendMessageCommand({ QueueUrl: url, MessageBody: JSON.stringify(formatJob(job)) }),
        ),
      );
    },
    async isEmpty() {
      const { Attributes } = await request(
        'reading the length of',
        ({ client, GetQueueAttributesCommand }) =>
          client.send(
            new GetQueueAttributesCommand({
              QueueUrl: url,
              AttributeNames: ['ApproximateNumberOfMessages'],
            }),
          ),
      );
      return Number(Attributes?.ApproximateNumberOfMessages ?? 0) === 0;
    },
    async retrySoon(receiptHandle, count) {
      const seconds = Math.min(maxRetrySeconds, firstRetrySeconds * 2 ** (count - 1));
      await request('delaying a message of', ({ client, ChangeMessageVisibilityCommand }) =>
        client.send(
          new ChangeMessageVisibilityCommand({
            QueueUrl: url,
            ReceiptHandle: receiptHandle,
            VisibilityTimeout: seconds,
          }),
        ),
      );
    },
  };
}

type Sdk = typeof SdkModule & { readonly client: SQSClient };

/** @see https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/CommonErrors.html */
function explain(error: unknown, action: string): Failure {
  const { name = '' } = error as { name?: string };
  const kind = /Throttl|TooMany|OverLimit/.test(name)
    ? 'throttled'
    : /AccessDenied|NonExistentQueue|QueueDoesNotExist|Invalid|Token/.test(name)
      ? 'final'
      : 'transient';
  return queueFailure(kind, `${action}: ${name}: ${messageOf(error)}`, error);
}
