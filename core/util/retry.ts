import { setTimeout as sleep } from 'node:timers/promises';
import { isNicheError } from '../errors.ts';
import { throwIfAborted } from './abort.ts';

/** A failed attempt. */
export interface Failure {
  /**
   * `throttled`: the service wants fewer concurrent requests. `transient`: a retry may help.
   * `final`: a retry would fail the same way.
   */
  readonly kind: 'throttled' | 'transient' | 'final';
  /** The response's `Retry-After`, in milliseconds. */
  readonly retryAfterMs?: number | undefined;
  /** Thrown when there are no more attempts. */
  readonly error: Error;
}

export interface RetryOptions {
  /** Concurrent requests while nothing fails. @default 64 */
  readonly maxConcurrency?: number;
  /** Attempts at one request, the first included; throttled ones do not count. @default 5 */
  readonly maxAttempts?: number;
  /** No more retries once a request has taken this long, in milliseconds. @default 120,000 */
  readonly maxElapsedMs?: number;
  /** The longest wait before the first retry, in milliseconds; doubles with each. @default 100 */
  readonly firstBackoffMs?: number;
  /** The longest wait between two attempts, in milliseconds. @default 20,000 */
  readonly maxBackoffMs?: number;
}

/** Sends requests to one service, no faster than it accepts them. */
export interface Retrier {
  /**
   * Runs `attempt`, and again where `explain` expects that to help. An attempt must not wait for
   * another `run`: each would occupy the slot that the other needs.
   *
   * @throws the `error` of the last failure; NicheError `aborted`
   */
  run<T>(request: RetriedRequest<T>): Promise<T>;
  /** Current concurrency limit. */
  readonly concurrency: number;
}

export interface RetriedRequest<T> {
  /** For the message of an abort: `reading "nar/…" in s3://…`. */
  readonly action: string;
  readonly attempt: () => Promise<T>;
  /** Judges what `attempt` threw. */
  readonly explain: (error: unknown) => Failure;
  readonly signal?: AbortSignal | undefined;
}

/** The shortest time between two cuts, in milliseconds: requests sent together fail together. */
const cutEveryMs = 500;

/**
 * Retries with exponential backoff and full jitter, and adapts the concurrency: halved when the
 * service throttles, one more after `concurrency` successes (additive increase, multiplicative
 * decrease, as in TCP). A throttled request is not a failed one: it is repeated until `maxElapsedMs`,
 * with no limit on attempts.
 */
export function createRetrier(options: RetryOptions = {}): Retrier {
  const {
    maxConcurrency = 64,
    maxAttempts = 5,
    maxElapsedMs = 120_000,
    firstBackoffMs = 100,
    maxBackoffMs = 20_000,
  } = options;
  const waiting: (() => void)[] = [];
  let limit = maxConcurrency;
  let running = 0;
  let lastCut = -Infinity;

  async function enter(): Promise<void> {
    if (running >= Math.floor(limit)) {
      // The request that leaves hands over its slot, so `running` is not counted again.
      await new Promise<void>((resolve) => waiting.push(resolve));
      return;
    }
    running += 1;
  }

  function leave(): void {
    running -= 1;
    while (running < Math.floor(limit)) {
      const next = waiting.shift();
      if (!next) return;
      running += 1;
      next();
    }
  }

  function cut(): void {
    const now = performance.now();
    if (now - lastCut < cutEveryMs) return;
    lastCut = now;
    limit = Math.max(1, limit / 2);
  }

  async function once<T>({ attempt }: RetriedRequest<T>): Promise<T> {
    await enter();
    try {
      const result = await attempt();
      limit = Math.min(maxConcurrency, limit + 1 / limit);
      return result;
    } finally {
      leave();
    }
  }

  return {
    get concurrency() {
      return Math.floor(limit);
    },
    async run(request) {
      const begun = performance.now();
      let failures = 0;
      for (let attempts = 0; ; attempts += 1) {
        throwIfAborted(request.signal, request.action);
        try {
          return await once(request);
        } catch (thrown) {
          throwIfAborted(request.signal, request.action);
          // A NicheError has been judged already.
          if (isNicheError(thrown)) throw thrown;
          const failure = request.explain(thrown);
          if (failure.kind === 'throttled') cut();
          else failures += 1;
          const backoffMs = Math.random() * Math.min(maxBackoffMs, firstBackoffMs * 2 ** attempts);
          const waitMs = Math.max(backoffMs, Math.min(failure.retryAfterMs ?? 0, maxBackoffMs));
          const isTooLate = performance.now() - begun + waitMs > maxElapsedMs;
          if (failure.kind === 'final' || failures >= maxAttempts || isTooLate) throw failure.error;
          await sleep(waitMs, undefined, { signal: request.signal }).catch(() => undefined);
        }
      }
    },
  };
}

/** Reads a `Retry-After` header: seconds, or a date. Returns milliseconds. */
export function retryAfterMs(text: string | undefined): number | undefined {
  if (text === undefined || text === '') return undefined;
  const seconds = Number(text);
  const ms = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(text) - Date.now();
  return Number.isFinite(ms) ? Math.max(0, ms) : undefined;
}
