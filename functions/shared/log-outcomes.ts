import { isNicheError } from '../../core/errors.ts';
import { describeFailure } from './log.ts';
import type { Log } from './log.ts';
import type { Counter } from './tally.ts';

/** Runs `work`; what it throws is logged and counted, and thrown on. */
export async function noting<T>(
  log: Log,
  counter: Counter,
  work: () => T | Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    note(error, log, counter);
    throw error;
  }
}

export function note(error: unknown, log: Log, counter: Counter): void {
  log.error('failed', describeFailure(error));
  if (isNicheError(error, 'malformed-event')) counter.malformed();
  else counter.failed(isNicheError(error) ? error.code : 'internal');
}
