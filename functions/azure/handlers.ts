import { noting } from '../shared/noting.ts';
import { runSweep, runTask } from '../shared/run.ts';
import { readTask } from './events.ts';
import type { AzureRuntime, Context } from './runtime.ts';

/** What the runtime tells of a message of the queue. */
function messageFields({ triggerMetadata = {} }: Context): object {
  const { id, dequeueCount } = triggerMetadata;
  return { queue: { message: id, count: Number(dequeueCount) } };
}

/**
 * Publishes what a message tells of. One that fails comes again; after five times the runtime puts
 * it aside, and the sweep goes on with its batch.
 */
export function createPublishHandler(
  runtime: () => AzureRuntime,
): (message: unknown, context: Context) => Promise<void> {
  return async (message, context) => {
    const { deployment, root, ...current } = runtime();
    await current.invoke(context, messageFields(context), (log, counter) =>
      noting(log, counter, async () => {
        const task = readTask(message, root);
        if (task) await runTask(deployment, task, { log, counter, timeLeftMs: undefined });
        else log.warn('ignored: no manifest of this cache');
      }),
    );
  };
}

/** Says of a message that was put aside what it was: the alert of it is made of this line. */
export function createPoisonHandler(
  runtime: () => AzureRuntime,
): (message: unknown, context: Context) => Promise<void> {
  return async (message, context) => {
    const current = runtime();
    await current.invoke(context, messageFields(context), (log) => {
      log.error('poison', { text: JSON.stringify(message).slice(0, maxShownCharacters) });
      return Promise.resolve();
    });
  };
}

/** Of a message that could not be handled, in the log. */
const maxShownCharacters = 2_000;

/** Finishes what was dropped; called by a timer. */
export function createSweepHandler(
  runtime: () => AzureRuntime,
): (timer: unknown, context: Context) => Promise<void> {
  return async (_timer, context) => {
    const { deployment, ...current } = runtime();
    await current.invoke(context, {}, (log, counter) =>
      noting(log, counter, () => runSweep(deployment, { log, counter })),
    );
  };
}
