import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { createCoalescer, createLimit, eachConcurrent } from '../../../core/util/concurrency.ts';

/** Yields 0, 1, 2 … below `end`, and counts the items taken. */
function numbers(end: number): { source: AsyncIterable<number>; taken: () => number } {
  let taken = 0;
  return {
    source: (async function* () {
      while (taken < end) {
        taken += 1;
        yield taken - 1;
        await turn();
      }
    })(),
    taken: () => taken,
  };
}

test('processes every item, within the concurrency limit', async () => {
  for (const limit of [1, 3, 100]) {
    const { source } = numbers(20);
    const done: number[] = [];
    let running = 0;
    let most = 0;
    await eachConcurrent(source, limit, async (item) => {
      running += 1;
      most = Math.max(most, running);
      for (let turns = item % 4; turns >= 0; turns -= 1) await turn();
      running -= 1;
      done.push(item);
    });
    assert.deepEqual(
      done.sort((one, other) => one - other),
      Array.from({ length: 20 }, (_, index) => index),
    );
    assert.ok(most <= limit, `${most} at once`);
    assert.equal(running, 0);
  }
});

test('starts no task after a failure, and waits for running tasks', async () => {
  const { source, taken } = numbers(100);
  let running = 0;
  const work = async (item: number): Promise<void> => {
    running += 1;
    for (let turns = 0; turns < 5; turns += 1) await turn();
    running -= 1;
    if (item === 3) throw new Error('third');
  };
  await assert.rejects(eachConcurrent(source, 2, work), /third/);
  assert.equal(running, 0);
  assert.ok(taken() < 10, `${taken()} taken`);
});

test('waits for running tasks when the source fails', async () => {
  let running = 0;
  async function* source(): AsyncIterable<number> {
    yield await Promise.resolve(1);
    throw new Error('the source is dry');
  }
  const work = async (): Promise<void> => {
    running += 1;
    for (let turns = 0; turns < 5; turns += 1) await turn();
    running -= 1;
  };
  await assert.rejects(eachConcurrent(source(), 4, work), /the source is dry/);
  assert.equal(running, 0);
});

test('a limiter runs tasks in order, within its limit, and isolates failures', async () => {
  for (const limit of [1, 3]) {
    const run = createLimit(limit);
    const begun: number[] = [];
    let running = 0;
    let most = 0;
    const work = async (item: number): Promise<number> => {
      begun.push(item);
      running += 1;
      most = Math.max(most, running);
      for (let turns = item % 4; turns >= 0; turns -= 1) await turn();
      running -= 1;
      if (item % 5 === 4) throw new Error(`injected ${item}`);
      return item;
    };
    const items = Array.from({ length: 20 }, (_, index) => index);
    const ends = await Promise.allSettled(items.map((item) => run(() => work(item))));
    assert.deepEqual(begun, items);
    assert.deepEqual(
      ends.map((end) => (end.status === 'fulfilled' ? end.value : null)),
      items.map((item) => (item % 5 === 4 ? null : item)),
    );
    assert.equal(most, limit);
    assert.equal(await run(() => Promise.resolve('after')), 'after');
  }
});

test('a coalescer groups concurrent items, and puts later items in the next group', async () => {
  const groups: (readonly number[])[] = [];
  const ended = Promise.withResolvers<undefined>();
  const add = createCoalescer<number>(async (group) => {
    groups.push(group);
    if (groups.length === 1) {
      add(3);
      await turn();
      add(4);
    } else {
      ended.resolve(undefined);
    }
  });
  add(1);
  add(2);
  assert.deepEqual(groups, []);
  await ended.promise;
  assert.deepEqual(groups, [
    [1, 2],
    [3, 4],
  ]);
  // It restarts after its end.
  await turn();
  add(5);
  await turn();
  await turn();
  assert.deepEqual(groups[2], [5]);
});
