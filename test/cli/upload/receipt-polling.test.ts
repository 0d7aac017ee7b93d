import assert from 'node:assert/strict';
import { test } from 'node:test';

import { pollDelays } from '../../../cli/upload/receipt-polling.ts';

/** The duration of each poll's request. */
const roundTripMs = 50;

/** Returns the polls until an event after `afterMs` is seen, and how late it is seen. */
function pollFor(afterMs: number): { polls: number; lateMs: number } {
  let polls = 0;
  let now = 0;
  for (const delayMs of pollDelays()) {
    now += delayMs + roundTripMs;
    polls += 1;
    if (now >= afterMs) break;
  }
  return { polls, lateMs: now - afterMs };
}

test('an early event is seen soon, and a long wait takes fewer than four polls a second', () => {
  assert.ok(pollFor(100).lateMs <= 100);
  for (let afterMs = 100; afterMs <= 120_000; afterMs += 100) {
    const { polls, lateMs } = pollFor(afterMs);
    assert.ok(lateMs <= 200 + afterMs / 5 && lateMs <= 1000 + roundTripMs, `${lateMs} ms late`);
    const before = 1 + afterMs / (250 + roundTripMs);
    assert.ok(polls <= before + 2, `${polls} polls in ${afterMs} ms`);
    if (afterMs > 3000) assert.ok(polls < before, `${polls} polls in ${afterMs} ms`);
  }
});
