import { malformedEvent } from '../events/trigger.ts';
import { parseJob } from '../shared/job.ts';
import { logFailures } from '../shared/log-outcomes.ts';
import type { Reporting } from '../shared/log-outcomes.ts';
import { runJob, runSweep } from '../shared/run.ts';
import { queueMessages } from './events.ts';
import { handleMessages } from './messages.ts';
import type { BatchResponse } from './messages.ts';
import type { AwsRuntime, LambdaContext } from './runtime.ts';

/**
 * Withdraws the paths of an event from SQS. Sweeps the cache on any other event: a schedule sends one
 * that does not matter.
 */
export function createSweepHandler(
  runtime: () => AwsRuntime,
): (event: unknown, context: LambdaContext) => Promise<BatchResponse> {
  return async (event, context) => {
    const { deployment, withdrawalQueue, ...current } = runtime();

    async function withdraw(document: unknown, reporting: Reporting): Promise<void> {
      const job = parseJob(document);
      // This role deletes public objects, so it reads nothing that clients stage.
      if (job.kind !== 'withdraw') throw malformedEvent('expected a path to withdraw');
      const timeLeftMs = (): number => context.getRemainingTimeInMillis();
      await runJob(deployment, job, { ...reporting, timeLeftMs });
    }

    return current.invoke(context, async (reporting) => {
      const messages = await logFailures(reporting, () => queueMessages(event));
      if (messages !== null) return handleMessages(messages, withdrawalQueue, reporting, withdraw);
      await logFailures(reporting, () => runSweep(deployment, reporting));
      return { batchItemFailures: [] };
    });
  };
}
