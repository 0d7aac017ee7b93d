import { isNicheError } from '../../core/errors.ts';
import { parseEventBody } from '../events/trigger.ts';
import { describeFailure } from '../shared/log.ts';
import { logFailure } from '../shared/log-outcomes.ts';
import type { Reporting } from '../shared/log-outcomes.ts';
import type { QueueMessage } from './events.ts';
import type { SqsQueue } from './sqs-queue.ts';

/**
 * The messages that SQS keeps. It deletes all others.
 *
 * @see https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html#services-sqs-batchfailurereporting
 */
export interface BatchResponse {
  readonly batchItemFailures: readonly { readonly itemIdentifier: string }[];
}

/**
 * Runs `work` on the document of each message. A message that fails or cannot be parsed stays in the
 * queue, and moves to the dead-letter queue in the end.
 *
 * @param queue the queue of the messages
 */
export async function handleMessages(
  messages: readonly QueueMessage[],
  queue: SqsQueue,
  reporting: Reporting,
  work: (document: unknown, reporting: Reporting) => Promise<void>,
): Promise<BatchResponse> {
  const failed: string[] = [];
  for (const message of messages) {
    const log = reporting.log.with({ queue: { message: message.id, count: message.count } });
    const own = { ...reporting, log };
    try {
      await work(parseEventBody(message.body), own);
    } catch (error) {
      logFailure(error, own);
      await retrySoon(message, error, queue, own);
      failed.push(message.id);
    }
  }
  return { batchItemFailures: failed.map((itemIdentifier) => ({ itemIdentifier })) };
}

/**
 * Retries a message soon after an error of niche. After any other error the invocation may still be
 * running, so the message waits for its full visibility timeout.
 */
async function retrySoon(
  { receiptHandle, count }: QueueMessage,
  error: unknown,
  queue: SqsQueue,
  { log }: Reporting,
): Promise<void> {
  if (!isNicheError(error)) return;
  try {
    await queue.retrySoon(receiptHandle, count);
  } catch (failure) {
    log.warn('a message keeps its visibility timeout', describeFailure(failure));
  }
}
