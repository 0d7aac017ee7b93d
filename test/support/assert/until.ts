import { setTimeout as sleep } from 'node:timers/promises';

/**
 * The one time limit of a test, in milliseconds. No test measures speed: the limit only ends what
 * hangs, also on a machine that has much else to do.
 */
export const testTimeLimitMs = 15 * 60_000;

/** How long a test waits for something to happen: less than its own limit, so that it says what. */
export const waitLimitMs = testTimeLimitMs / 3;

/**
 * Waits until `isSo`.
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
