import { isNicheError } from '../../core/errors.ts';
import { describeFailure } from '../shared/log.ts';
import type { Log } from '../shared/log.ts';
import { note, noting } from '../shared/noting.ts';
import { runTask } from '../shared/run.ts';
import type { Counter } from '../shared/tally.ts';
import { parseEventBody } from '../events/malformed.ts';
import { queueMessages, readTasks } from './events.ts';
import type { QueueMessage } from './events.ts';
import type { AwsRuntime, LambdaContext } from './runtime.ts';

/** Which messages SQS is to keep; all others it deletes. */
export interface BatchResponse {
  readonly batchItemFailures: readonly { readonly itemIdentifier: string }[];
}

/**
 * Publishes what an event tells of: one that came by SQS, or S3's or EventBridge's own. A message
 * that fails stays in the queue, and in the end goes to the dead letters; so does one that cannot be
 * read. An event that came otherwise fails the invocation.
 */
export function createPublishHandler(
  runtime: () => AwsRuntime,
): (event: unknown, context: LambdaContext) => Promise<BatchResponse> {
  return async (event, context) => {
    const { deployment, queue, root, ...current } = runtime();

    async function runAll(document: unknown, log: Log, counter: Counter): Promise<void> {
      const { tasks, ignored } = readTasks(document, root);
      for (const object of ignored) log.warn('ignored: no manifest of this cache', object);
      const timeLeftMs = (): number => context.getRemainingTimeInMillis();
      for (const task of tasks) await runTask(deployment, task, { log, counter, timeLeftMs });
    }

    async function handle(message: QueueMessage, log: Log, counter: Counter): Promise<boolean> {
      try {
        await runAll(parseEventBody(message.body), log, counter);
        return true;
      } catch (error) {
        note(error, log, counter);
        await putOff(message, error, log);
        return false;
      }
    }

    /** What niche itself reports is tried again soon; after anything else, once it must be over. */
    async function putOff(message: QueueMessage, error: unknown, log: Log): Promise<void> {
      if (!isNicheError(error)) return;
      try {
        await queue.retrySoon(message.receiptHandle, message.count);
      } catch (failure) {
        log.warn('a message keeps its visibility timeout', describeFailure(failure));
      }
    }

    return current.invoke(context, async (log, counter) => {
      const failed: string[] = [];
      const messages = await noting(log, counter, () => queueMessages(event));
      if (messages === null) {
        await noting(log, counter, () => runAll(event, log, counter));
      }
      for (const message of messages ?? []) {
        const fields = { message: message.id, count: message.count };
        if (!(await handle(message, log.with({ queue: fields }), counter))) failed.push(message.id);
      }
      return { batchItemFailures: failed.map((itemIdentifier) => ({ itemIdentifier })) };
    });
  };
}
