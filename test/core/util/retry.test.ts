import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createRetrier, type Failure } from '../../../core/util/retry.ts';

const fast = { firstBackoffMs: 1, maxBackoffMs: 2 };

function failing(
  kind: Failure['kind'],
  times: number,
): { calls: () => number; attempt: () => Promise<string> } {
  let calls = 0;
  return {
    calls: () => calls,
    attempt: () => {
      calls += 1;
      return calls <= times ? Promise.reject(new Error(kind)) : Promise.resolve('done');
    },
  };
}

const explain = (thrown: unknown): Failure => {
  const error = thrown as Error;
  return { kind: error.message as Failure['kind'], error };
};

describe('a retrier', () => {
  it('retries only errors that may be transient', async () => {
    const retrier = createRetrier({ ...fast, maxAttempts: 3 });
    const twice = failing('transient', 2);
    assert.equal(await retrier.run({ action: 'reading', explain, attempt: twice.attempt }), 'done');
    assert.equal(twice.calls(), 3);
    const always = failing('transient', 9);
    await assert.rejects(retrier.run({ action: 'reading', explain, attempt: always.attempt }), {
      message: 'transient',
    });
    assert.equal(always.calls(), 3);
    const final = failing('final', 1);
    await assert.rejects(retrier.run({ action: 'reading', explain, attempt: final.attempt }));
    assert.equal(final.calls(), 1);
  });

  it('retries throttled requests more often than failed ones, and lowers concurrency', async () => {
    const retrier = createRetrier({ ...fast, maxAttempts: 2, maxConcurrency: 32 });
    const throttled = failing('throttled', 8);
    assert.equal(
      await retrier.run({ action: 'writing', explain, attempt: throttled.attempt }),
      'done',
    );
    assert.equal(throttled.calls(), 9);
    assert.equal(retrier.concurrency, 16);
  });

  it('gives up in bounded time, even if the server requests a longer delay', async () => {
    const retrier = createRetrier({ ...fast, maxElapsedMs: 20 });
    let calls = 0;
    await assert.rejects(
      retrier.run({
        action: 'writing',
        attempt: () => {
          calls += 1;
          return Promise.reject(new Error('503'));
        },
        explain: () => ({ kind: 'throttled', error: new Error('still throttled') }),
      }),
      { message: 'still throttled' },
    );
    assert.ok(calls > 1);
  });

  it('honours the requested delay, up to its own limit', async () => {
    const retrier = createRetrier({ firstBackoffMs: 0, maxBackoffMs: 30 });
    const once = failing('throttled', 1);
    const begun = performance.now();
    await retrier.run({
      action: 'writing',
      attempt: once.attempt,
      explain: (error) => ({ ...explain(error), retryAfterMs: 60_000 }),
    });
    assert.ok(performance.now() - begun >= 29);
  });

  it('stays within its concurrency limit and completes every request', async () => {
    const retrier = createRetrier({ ...fast, maxConcurrency: 4 });
    let running = 0;
    let most = 0;
    const results = await Promise.all(
      Array.from({ length: 50 }, (_, index) =>
        retrier.run({
          action: 'reading',
          explain,
          attempt: async () => {
            running += 1;
            most = Math.max(most, running);
            await sleep(1);
            running -= 1;
            return index;
          },
        }),
      ),
    );
    assert.equal(most, 4);
    assert.deepEqual(results, [...results.keys()]);
  });

  it('ends when its caller aborts, even during a delay', async () => {
    const retrier = createRetrier({ firstBackoffMs: 60_000, maxBackoffMs: 60_000 });
    const controller = new AbortController();
    const request = retrier.run({
      action: 'reading',
      attempt: () => Promise.reject(new Error('transient')),
      explain: (error) => ({ ...explain(error), retryAfterMs: 60_000 }),
      signal: controller.signal,
    });
    setTimeout(() => {
      controller.abort();
    }, 5);
    await assert.rejects(request, { code: 'aborted' });
  });
});
