import { logFailures } from '../shared/log-outcomes.ts';
import { malformedEvent } from '../events/trigger.ts';
import { parseJob } from '../shared/job.ts';
import { runJob, runSweep } from '../shared/run.ts';
import { readJob } from './events.ts';
import type { AzureRuntime, Context } from './runtime.ts';

/** Returns the log fields that identify a queue message. */
function messageFields({ triggerMetadata = {} }: Context): object {
  const { id, dequeueCount } = triggerMetadata;
  return { queue: { message: id, count: Number(dequeueCount) } };
}

/**
 * Publishes the batch of a queue message. The runtime delivers a failed message up to five times
 * (`maxDequeueCount` in host.json), then moves it to the poison queue. The sweep publishes its batch.
 */
export function createPublishHandler(
  runtime: () => AzureRuntime,
): (message: unknown, context: Context) => Promise<void> {
  return async (message, context) => {
    const { deployment, root, ...current } = runtime();
    await current.invoke(context, messageFields(context), (reporting) =>
      logFailures(reporting, async () => {
        const job = readJob(message, root);
        if (job) await runJob(deployment, job, { ...reporting, timeLeftMs: undefined });
        else reporting.log.warn('ignored: not a manifest of this cache');
      }),
    );
  };
}

/**
 * Withdraws the path of a queue message. It runs no other job: only the publisher's app, with fewer
 * rights, reads what clients stage.
 */
export function createWithdrawHandler(
  runtime: () => AzureRuntime,
): (message: unknown, context: Context) => Promise<void> {
  return async (message, context) => {
    const { deployment, ...current } = runtime();
    await current.invoke(context, messageFields(context), (reporting) =>
      logFailures(reporting, async () => {
        const job = parseJob(message);
        if (job.kind !== 'withdraw') throw malformedEvent('expected a path to withdraw');
        await runJob(deployment, job, { ...reporting, timeLeftMs: undefined });
      }),
    );
  };
}

/** Logs a message of the poison queue. The deployment's alert matches this record. */
export function createPoisonHandler(
  runtime: () => AzureRuntime,
): (message: unknown, context: Context) => Promise<void> {
  return async (message, context) => {
    const current = runtime();
    await current.invoke(context, messageFields(context), ({ log }) => {
      log.error('poison', { text: JSON.stringify(message).slice(0, maxShownCharacters) });
      return Promise.resolve();
    });
  };
}

/** The most characters of a poison message that are logged. */
const maxShownCharacters = 2_000;

/** Sweeps the cache. A timer calls it. */
export function createSweepHandler(
  runtime: () => AzureRuntime,
): (timer: unknown, context: Context) => Promise<void> {
  return async (_timer, context) => {
    const { deployment, ...current } = runtime();
    await current.invoke(context, {}, (reporting) =>
      logFailures(reporting, () => runSweep(deployment, reporting)),
    );
  };
}
