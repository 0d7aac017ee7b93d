import assert from 'node:assert/strict';
import { test } from 'node:test';

import { createQueue } from '../../../cli/watch/queue.ts';
import { collect } from '../nix/collect.ts';

test('yields items in order, and then ends', async () => {
  const queue = createQueue<number>();
  queue.push(1);
  const all = collect(queue.items);
  await Promise.resolve();
  queue.push(2);
  queue.push(3);
  setImmediate(() => {
    queue.push(4);
    queue.end();
  });
  assert.deepEqual(await all, [1, 2, 3, 4]);
});

test('throws a failure after the pushed items', async () => {
  const queue = createQueue<number>();
  queue.push(1);
  queue.fail(new Error('broken'));
  const seen: number[] = [];
  await assert.rejects(async () => {
    for await (const item of queue.items) seen.push(item);
  }, /broken/u);
  assert.deepEqual(seen, [1]);
});
