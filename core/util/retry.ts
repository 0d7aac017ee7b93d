import { setTimeout as sleep } from 'node:timers/promises';
import { isNicheError } from '../errors.ts';
import { throwIfAborted } from './abort.ts';

/** What is known of an attempt that failed. */
export interface Failure {
  /**
   * `throttled`: the storage asks for fewer requests at once. `transient`: a retry may help.
   * `final`: it would fail the same way again.
   */
  readonly kind: 'throttled' | 'transient' | 'final';
  /** What the storage's `Retry-After` asked for, in milliseconds. */
  readonly retryAfterMs?: number | undefined;
  /** What the caller is told when no more attempts are made. */
  readonly error: Error;
}

export interface RetryOptions {
  /** Requests under way at once while nothing goes wrong. @default 64 */
  readonly maxConcurrency?: number;
  /** Attempts at one request, the first included, unless it is throttled. @default 5 */
  readonly maxAttempts?: number;
  /** Retries end once a request has taken this long, in milliseconds. @default 120,000 */
  readonly maxElapsedMs?: number;
  /** Before the first retry, in milliseconds; doubles with each. @default 100 */
  readonly firstBackoffMs?: number;
  /** The longest wait between two attempts, in milliseconds. @default 20,000 */
  readonly maxBackoffMs?: number;
}

/** Sends requests to one storage no faster than it takes them. */
export interface Retrier {
  /**
   * Runs `attempt`, again where `explain` says that it may help. An attempt must not wait for
   * another `run`: each would hold the place that the other needs.
   *
   * @param action what is being done, as in "reading", for the message of an abort
   * @throws the `error` of the last failure; `aborted`
   */
  run<T>(request: RetriedRequest<T>): Promise<T>;
  /** Requests that may be under way at once by now. */
  readonly concurrency: number;
}

export interface RetriedRequest<T> {
  readonly action: string;
  readonly attempt: () => Promise<T>;
  /** Judges what `attempt` threw. */
  readonly explain: (error: unknown) => Failure;
  readonly signal?: AbortSignal | undefined;
}

/** Cuts come at most so often, in milliseconds: requests that were sent together fail together. */
const cutEveryMs = 500;

/**
 * Retries with exponential backoff and full jitter, and adapts how many requests are under way:
 * halved when the storage throttles, one more for each `concurrency` successes (additive increase,
 * multiplicative decrease, as TCP does). A throttled request is not a failed one: it is repeated
 * until `maxElapsedMs`, however often.
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
      // Whoever leaves hands over its place, so `running` is not counted again.
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
          // An error in niche's own words has been judged already.
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
