import type { Log } from './log.ts';
import type { Reporting } from './log-outcomes.ts';
import { createMetrics, metricsFields } from './metrics.ts';
import type { InvocationMetrics } from './metrics.ts';

/**
 * Runs one invocation, and reports its metrics even when `work` throws.
 *
 * @param report writes the metrics. By default they are one record of the log, `done`
 */
export async function runInvocation<T>(
  log: Log,
  work: (reporting: Reporting) => Promise<T>,
  report: (metrics: InvocationMetrics) => void = (metrics) => {
    log.info('done', metricsFields(metrics));
  },
): Promise<T> {
  const metrics = createMetrics();
  try {
    return await work({ log, metrics });
  } finally {
    report(metrics.snapshot());
  }
}

/**
 * Returns a function that creates its value at the first call. Importing a function must cost
 * nothing, and each invocation that a wrong setting fails must log why: an error is not kept.
 */
export function lazily<T>(create: () => T): () => T {
  let created: { readonly value: T } | undefined;
  return () => (created ??= { value: create() }).value;
}
