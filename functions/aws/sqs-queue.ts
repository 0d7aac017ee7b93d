import type { SQSClient } from '@aws-sdk/client-sqs';

import { NicheError, messageOf } from '../../core/errors.ts';
import { createRetrier } from '../../core/util/retry.ts';
import type { TaskQueue } from '../shared/deployment.ts';
import { taskMessage } from '../shared/task.ts';
import type * as SdkModule from './sqs-sdk.ts';

/** The deployment's queue in SQS. */
export interface SqsQueue extends TaskQueue {
  /** Lets a message that was received for the `count`th time come again soon, later each time. */
  retrySoon(receiptHandle: string, count: number): Promise<void>;
}

/** Before a failed message comes again for the first time, in seconds; doubles with each. */
const firstRetrySeconds = 15;
const maxRetrySeconds = 15 * 60;

/**
 * Methods throw NicheError `storage-unavailable`, `storage-denied`.
 *
 * @param client a ready one; else one is made on first use
 */
export function openSqsQueue(url: string, client?: SQSClient): SqsQueue {
  const pace = createRetrier({ maxConcurrency: 16 });
  let opened: Promise<Sdk> | undefined;

  async function open(): Promise<Sdk> {
    const sdk = await import('./sqs-sdk.ts');
    return { ...sdk, client: client ?? new sdk.SQSClient({ maxAttempts: 1 }) };
  }

  async function request<T>(action: string, send: (sdk: Sdk) => Promise<T>): Promise<T> {
    const sdk = await (opened ??= open());
    return pace.run({
      action,
      attempt: () => send(sdk),
      explain: (error) => explain(error, action, url),
    });
  }

  return {
    async send(task) {
      await request('sending to', ({ client, SendMessageCommand }) =>
        client.send(
          new SendMessageCommand({ QueueUrl: url, MessageBody: JSON.stringify(taskMessage(task)) }),
        ),
      );
    },
    async isEmpty() {
      const { Attributes } = await request(
        'asking for the length of',
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
      await request('putting off a message of', ({ client, ChangeMessageVisibilityCommand }) =>
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

function explain(
  error: unknown,
  action: string,
  url: string,
): { kind: 'throttled' | 'transient' | 'final'; error: NicheError } {
  const { name = '' } = error as { name?: string };
  const isFinal = /AccessDenied|NonExistentQueue|QueueDoesNotExist|Invalid|Token/.test(name);
  const code = isFinal ? 'storage-denied' : 'storage-unavailable';
  const failure = new NicheError(code, `${action} the queue ${url}: ${name}: ${messageOf(error)}`, {
    cause: error,
  });
  const isThrottled = /Throttl|TooMany|OverLimit/.test(name);
  return { kind: isThrottled ? 'throttled' : isFinal ? 'final' : 'transient', error: failure };
}
