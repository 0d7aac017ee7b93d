import { constants } from 'node:os';

import { stopSignals } from '../nix/run.ts';

/** Signals that ask niche to stop, while it may still have work under way. */
export interface Interrupt {
  /** Aborted when niche is to abandon its work. */
  readonly signal: AbortSignal;
  /** 128 and the signal's number, as a shell would say; null until then. */
  status(): number | null;
  /** From now on the first signal is enough: what it was meant for has ended. */
  arm(): void;
  close(): void;
}

/**
 * Listens for signals until `close`.
 *
 * @param armed false while another program runs that the signals are meant for: they do nothing
 *   then, until {@link Interrupt.arm} is called
 */
export function listenForInterrupt(armed: boolean): Interrupt {
  const controller = new AbortController();
  let isArmed = armed;
  let status: number | null = null;
  const handlers = stopSignals.map((name) => {
    const handler = (): void => {
      if (!isArmed) return;
      // A second signal while the work is being abandoned means: at once.
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
 * Waits for `work`, or no longer than a moment once the signal is aborted.
 *
 * @returns `interrupted` when the work was abandoned; what the work throws otherwise is thrown
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
  // Give what is being written the time to take itself back.
  const grace = new Promise((resolve) => setTimeout(resolve, graceMs).unref());
  await Promise.race([work.catch(() => undefined), grace]);
  return 'interrupted';
}

const graceMs = 2_000;
