import { setTimeout as sleep } from 'node:timers/promises';

/**
 * The time limit of a test, in milliseconds. No test measures speed: the limit only stops tests that
 * hang, and must suffice on a busy machine.
 */
export const testTimeLimitMs = 15 * 60_000;

/** How long a test waits for an event. It is below the test's limit, so that the error contains the event. */
export const waitLimitMs = testTimeLimitMs / 3;

/**
 * Waits until `isSo` returns true.
 * @throws Error with `what` when it takes longer than {@link waitLimitMs}
 */
export async function until(
  what: string,
  isSo: () => boolean | Promise<boolean>,
  everyMs = 20,
): Promise<void> {
  const deadline = Date.now() + waitLimitMs;
  while (!(await isSo())) {
    if (Date.now() > deadline) throw new Error(`waited in vain until ${what}`);
    await sleep(everyMs);
  }
}
