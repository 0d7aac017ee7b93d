import { setTimeout as sleep } from 'node:timers/promises';

import { isNicheError } from '../errors.ts';

/** Runs a lookup in one upstream, and again once an outage of the upstream is over. */
export type OutageWait = <T>(lookup: () => Promise<T>) => Promise<T>;

export interface OutageOptions {
  /** The longest wait for the upstream, all its outages together, in milliseconds. */
  readonly maxWaitMs: number;
  /** Called when an outage begins for which the lookups wait. */
  readonly onDown: () => void;
  /** Called when the upstream responds again. */
  readonly onAnswer: (outageMs: number) => void;
  /** Called once, when lookups wait no longer. */
  readonly onGivenUp: () => void;
  /** How long no lookup tries an upstream that was given up, in milliseconds. @default 60,000 */
  readonly restMs?: number;
  /** The first wait, in milliseconds; doubles with each. @default 500 */
  readonly firstDelayMs?: number;
}

const maxDelayMs = 5_000;

/**
 * Returns a wait for an upstream that is down. Lookups that fail meanwhile wait for the same probe. Once
 * `maxWaitMs` is over, lookups throw at once, since each attempt at a dead server takes half a minute.
 */
export function createOutageWait(options: OutageOptions): OutageWait {
  const { restMs = 60_000, firstDelayMs = 500 } = options;
  let leftMs = options.maxWaitMs;
  let probing: Promise<void> | null = null;
  let rest: { readonly untilMs: number; readonly error: unknown } | null = null;

  /** @throws the error of the last attempt, when the upstream stays down */
  async function probe(lookup: () => Promise<unknown>, failure: unknown): Promise<void> {
    const begun = performance.now();
    const outageMs = (): number => performance.now() - begun;
    let error = failure;
    options.onDown();
    for (let delayMs = firstDelayMs; ; delayMs = Math.min(2 * delayMs, maxDelayMs)) {
      const restOfWaitMs = leftMs - outageMs();
      if (restOfWaitMs <= 0) {
        leftMs = 0;
        options.onGivenUp();
        throw error;
      }
      await sleep(Math.min(delayMs, restOfWaitMs));
      try {
        await lookup();
      } catch (thrown) {
        error = thrown;
        if (isDown(thrown)) continue;
      }
      options.onAnswer(outageMs());
      leftMs -= outageMs();
      return;
    }
  }

  return async (lookup) => {
    for (;;) {
      if (rest !== null && performance.now() < rest.untilMs) throw rest.error;
      try {
        return await lookup();
      } catch (error) {
        if (!isDown(error)) throw error;
        if (leftMs > 0) {
          probing ??= probe(lookup, error).finally(() => {
            probing = null;
          });
          await probing.catch(() => undefined);
        }
        if (leftMs > 0) continue;
        rest = { untilMs: performance.now() + restMs, error };
        throw error;
      }
    }
  };
}

/** Whether a lookup failed for a reason that may pass, unlike a denied one. */
export function isDown(error: unknown): boolean {
  return isNicheError(error, 'storage-unavailable');
}
