import { isNicheError } from '../../core/errors.ts';
import { parseEventBody } from '../events/trigger.ts';
import { describeFailure } from '../shared/log.ts';
import { logFailure, logFailures } from '../shared/log-outcomes.ts';
import type { Reporting } from '../shared/log-outcomes.ts';
import { runJob } from '../shared/run.ts';
import { queueMessages, readJobs } from './events.ts';
import type { QueueMessage } from './events.ts';
import type { AwsRuntime, LambdaContext } from './runtime.ts';

/**
 * The messages that SQS keeps. It deletes all others.
 *
 * @see https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html#services-sqs-batchfailurereporting
 */
export interface BatchResponse {
  readonly batchItemFailures: readonly { readonly itemIdentifier: string }[];
}

/**
 * Publishes the batches of an event: one from SQS, S3 or EventBridge. A message that fails or
 * cannot be parsed stays in the queue, and moves to the dead-letter queue in the end. A failed event
 * from elsewhere fails the invocation.
 */
export function createPublishHandler(
  runtime: () => AwsRuntime,
): (event: unknown, context: LambdaContext) => Promise<BatchResponse> {
  return async (event, context) => {
    const { deployment, queue, root, ...current } = runtime();

    async function runAll(document: unknown, reporting: Reporting): Promise<void> {
      const { jobs, ignored } = readJobs(document, root);
      for (const object of ignored) {
        reporting.log.warn('ignored: not a manifest of this cache', object);
      }
      const timeLeftMs = (): number => context.getRemainingTimeInMillis();
      for (const job of jobs) await runJob(deployment, job, { ...reporting, timeLeftMs });
    }

    async function handle(message: QueueMessage, reporting: Reporting): Promise<boolean> {
      try {
        await runAll(parseEventBody(message.body), reporting);
        return true;
      } catch (error) {
        logFailure(error, reporting);
        await retrySoon(message, error, reporting);
        return false;
      }
    }

    /**
     * Retries a message soon after an error of niche. After any other error the invocation may still
     * be running, so the message waits for its full visibility timeout.
     */
    async function retrySoon(
      { receiptHandle, count }: QueueMessage,
      error: unknown,
      { log }: Reporting,
    ): Promise<void> {
      if (!isNicheError(error)) return;
      try {
        await queue.retrySoon(receiptHandle, count);
      } catch (failure) {
        log.warn('a message keeps its visibility timeout', describeFailure(failure));
      }
    }

    return current.invoke(context, async (reporting) => {
      const failed: string[] = [];
      const messages = await logFailures(reporting, () => queueMessages(event));
      if (messages === null) await logFailures(reporting, () => runAll(event, reporting));
      for (const message of messages ?? []) {
        const log = reporting.log.with({ queue: { message: message.id, count: message.count } });
        if (!(await handle(message, { ...reporting, log }))) failed.push(message.id);
      }
      return { batchItemFailures: failed.map((itemIdentifier) => ({ itemIdentifier })) };
    });
  };
}
