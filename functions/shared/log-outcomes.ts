import type { PublishResult } from '../../core/cache/publish/report.ts';
import { isNicheError } from '../../core/errors.ts';
import { describeFailure } from './log.ts';
import type { Log } from './log.ts';
import type { MetricsRecorder } from './metrics.ts';

/** Where an invocation reports what it did. */
export interface Reporting {
  readonly log: Log;
  readonly metrics: MetricsRecorder;
}

/** Runs `work`. Logs and counts an error before it passes it on. */
export async function logFailures<T>(reporting: Reporting, work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    logFailure(error, reporting);
    throw error;
  }
}

/** Logs and counts an error. */
export function logFailure(error: unknown, { log, metrics }: Reporting): void {
  log.error('failed', describeFailure(error));
  if (isNicheError(error, 'malformed-event')) metrics.countMalformed();
  else metrics.countFailure(isNicheError(error) ? error.code : 'internal');
}

/** Logs and counts the outcome of one path. */
export function logOutcome(published: PublishResult, { log, metrics }: Reporting): void {
  const { path, upload, outcome, narSize } = published;
  const { status, code, message, missing, warnings } = outcome;
  metrics.countOutcome(published);
  log[status === 'rejected' ? 'warn' : 'info'](status, {
    upload,
    path,
    ...(narSize === null ? {} : { narSize }),
    ...(code === undefined ? {} : { code, reason: message }),
    ...(missing === undefined ? {} : { missing: missing.length }),
    ...(warnings === undefined ? {} : { warnings }),
  });
}
