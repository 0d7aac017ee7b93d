import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { createOutageWait } from '../../../core/cache/upstream-outage.ts';
import type { OutageWait } from '../../../core/cache/upstream-outage.ts';
import { NicheError } from '../../../core/errors.ts';
import type { NicheErrorCode } from '../../../core/errors.ts';

interface Setting {
  readonly waitOut: OutageWait;
  readonly events: readonly string[];
  /** Looks a path up, and counts it. */
  readonly lookup: () => Promise<string>;
  readonly lookups: () => number;
  /** Lets the next lookups fail. */
  readonly fail: (code: NicheErrorCode, times: number) => void;
}

function setUp(maxWaitMs: number, restMs?: number): Setting {
  const events: string[] = [];
  let [count, left] = [0, 0];
  let code: NicheErrorCode = 'storage-unavailable';
  return {
    events,
    waitOut: createOutageWait({
      maxWaitMs,
      firstDelayMs: 1,
      ...(restMs === undefined ? {} : { restMs }),
      onDown: () => events.push('down'),
      onAnswer: () => events.push('answer'),
      onGivenUp: () => events.push('given up'),
    }),
    lookup() {
      count += 1;
      left -= 1;
      return left >= 0 ? Promise.reject(new NicheError(code, 'failed')) : Promise.resolve('found');
    },
    lookups: () => count,
    fail(failure, times) {
      code = failure;
      left = times;
    },
  };
}

describe('the wait for an upstream that is down', () => {
  test('ends when it responds again, for all lookups together', async () => {
    const { waitOut, lookup, fail, events } = setUp(60_000);
    fail('storage-unavailable', 10);
    const all = await Promise.all(Array.from({ length: 5 }, () => waitOut(lookup)));
    assert.deepEqual(all, Array(5).fill('found'));
    assert.deepEqual(events, ['down', 'answer']);
    fail('storage-unavailable', 1);
    assert.equal(await waitOut(lookup), 'found');
    assert.deepEqual(events, ['down', 'answer', 'down', 'answer']);
  });

  test('ends after the longest wait, and then lookups fail without a request', async () => {
    const { waitOut, lookup, lookups, fail, events } = setUp(20);
    fail('storage-unavailable', Infinity);
    const ended = await Promise.allSettled([waitOut(lookup), waitOut(lookup)]);
    assert.deepEqual(
      ended.map(({ status }) => status),
      ['rejected', 'rejected'],
    );
    assert.deepEqual(events, ['down', 'given up']);
    const before = lookups();
    await assert.rejects(waitOut(lookup), { code: 'storage-unavailable' });
    assert.equal(lookups(), before);
  });

  test('is not repeated, but a later lookup finds an upstream that responds again', async () => {
    const { waitOut, lookup, lookups, fail, events } = setUp(20, 0);
    fail('storage-unavailable', Infinity);
    await assert.rejects(waitOut(lookup));
    const before = lookups();
    await assert.rejects(waitOut(lookup));
    assert.equal(lookups(), before + 1);
    fail('storage-unavailable', 0);
    assert.equal(await waitOut(lookup), 'found');
    assert.deepEqual(events, ['down', 'given up']);
  });

  test('does not begin for a denied lookup', async () => {
    const { waitOut, lookup, fail, events } = setUp(60_000);
    fail('storage-denied', 1);
    await assert.rejects(waitOut(lookup), { code: 'storage-denied' });
    assert.deepEqual(events, []);
  });
});
