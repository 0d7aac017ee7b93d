import { constants } from 'node:os';

import { stopSignals } from './foreground.ts';

/** How long abandoned work may take to clean up. */
const graceMs = 2_000;

/** A request by signal to stop. */
export interface Interrupt {
  /** Aborted when niche must abandon its work. */
  readonly signal: AbortSignal;
  /** Returns 128 plus the signal's number, as in a shell; null before a signal. */
  status(): number | null;
  /** Makes the next signal abort: the program that signals were meant for has ended. */
  arm(): void;
  close(): void;
}

/**
 * Listens for stop signals until `close`.
 *
 * @param armed false while signals are meant for another program: they are ignored until
 *   {@link Interrupt.arm} is called
 */
export function listenForInterrupt(armed: boolean): Interrupt {
  const controller = new AbortController();
  let isArmed = armed;
  let status: number | null = null;
  const handlers = stopSignals.map((name) => {
    const handler = (): void => {
      if (!isArmed) return;
      // A second signal exits at once.
      if (controller.signal.aborted) process.exit(status ?? 1);
      status = 128 + constants.signals[name];
      controller.abort();
    };
    process.on(name, handler);
    return [name, handler] as const;
  });
  return {
    signal: controller.signal,
    status: () => status,
    arm() {
      isArmed = true;
    },
    close() {
      for (const [name, handler] of handlers) process.off(name, handler);
    },
  };
}

/**
 * Waits for `work`, but only briefly once the signal is aborted.
 *
 * @returns `interrupted` when the work was abandoned
 */
export async function unlessInterrupted<T>(
  signal: AbortSignal,
  work: Promise<T>,
): Promise<T | 'interrupted'> {
  const aborted = new Promise<'interrupted'>((resolve) => {
    signal.addEventListener('abort', () => {
      resolve('interrupted');
    });
    if (signal.aborted) resolve('interrupted');
  });
  const first = await Promise.race([work, aborted]);
  if (!signal.aborted) return first;
  // Lets running writes undo themselves.
  const grace = new Promise((resolve) => setTimeout(resolve, graceMs).unref());
  await Promise.race([work.catch(() => undefined), grace]);
  return 'interrupted';
}
