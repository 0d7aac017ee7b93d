import { logFailures } from '../shared/log-outcomes.ts';
import type { Reporting } from '../shared/log-outcomes.ts';
import { runJob } from '../shared/run.ts';
import { queueMessages, readJobs } from './events.ts';
import { handleMessages } from './messages.ts';
import type { BatchResponse } from './messages.ts';
import type { AwsRuntime, LambdaContext } from './runtime.ts';

/**
 * Publishes the batches of an event: one from SQS, S3 or EventBridge. A failed event that is not from
 * SQS fails the invocation.
 */
export function createPublishHandler(
  runtime: () => AwsRuntime,
): (event: unknown, context: LambdaContext) => Promise<BatchResponse> {
  return async (event, context) => {
    const { deployment, jobQueue, root, ...current } = runtime();

    async function runAll(document: unknown, reporting: Reporting): Promise<void> {
      const { jobs, ignored } = readJobs(document, root);
      for (const object of ignored) {
        reporting.log.warn('ignored: not a manifest of this cache', object);
      }
      const timeLeftMs = (): number => context.getRemainingTimeInMillis();
      for (const job of jobs) await runJob(deployment, job, { ...reporting, timeLeftMs });
    }

    return current.invoke(context, async (reporting) => {
      const messages = await logFailures(reporting, () => queueMessages(event));
      if (messages !== null) return handleMessages(messages, jobQueue, reporting, runAll);
      await logFailures(reporting, () => runAll(event, reporting));
      return { batchItemFailures: [] };
    });
  };
}
