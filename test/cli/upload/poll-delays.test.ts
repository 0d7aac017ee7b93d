import assert from 'node:assert/strict';
import { test } from 'node:test';

import { pollDelays } from '../../../cli/upload/poll-delays.ts';

/** Of a request that each look takes besides, in milliseconds. */
const roundTripMs = 50;

/** How many looks there are until something is seen that happened after so long, and how late. */
function lookFor(afterMs: number): { looks: number; lateMs: number } {
  let looks = 0;
  let now = 0;
  for (const delayMs of pollDelays()) {
    now += delayMs + roundTripMs;
    looks += 1;
    if (now >= afterMs) break;
  }
  return { looks, lateMs: now - afterMs };
}

test('what is there soon is seen soon, and long waits cost fewer looks than four a second', () => {
  assert.ok(lookFor(100).lateMs <= 100);
  for (let afterMs = 100; afterMs <= 120_000; afterMs += 100) {
    const { looks, lateMs } = lookFor(afterMs);
    assert.ok(lateMs <= 200 + afterMs / 5 && lateMs <= 1000 + roundTripMs, `${lateMs} ms late`);
    const before = 1 + afterMs / (250 + roundTripMs);
    assert.ok(looks <= before + 2, `${looks} looks in ${afterMs} ms`);
    if (afterMs > 3000) assert.ok(looks < before, `${looks} looks in ${afterMs} ms`);
  }
});
