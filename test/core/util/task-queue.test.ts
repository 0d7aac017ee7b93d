import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createTaskQueue } from '../../../core/util/task-queue.ts';
import type { Task, TaskQueue } from '../../../core/util/task-queue.ts';

/** A queue whose tasks end only when the test ends them. */
function open(concurrency: number): {
  queue: TaskQueue<Task>;
  /** Adds a task. */
  add: (key: string, more?: Partial<Task>) => void;
  /** Ends a running task, and lets the queue react. */
  end: (key: string, error?: Error) => Promise<void>;
  started: string[];
  ended: [key: string, failure: string | null][];
} {
  const running = new Map<string, PromiseWithResolvers<undefined>>();
  const started: string[] = [];
  const ended: [string, string | null][] = [];
  const queue = createTaskQueue<Task>({
    concurrency,
    onEnded: ({ key }, failure) => ended.push([key, failure?.message ?? null]),
  });
  return {
    queue,
    started,
    ended,
    add(key, more = {}) {
      const run = async (): Promise<void> => {
        started.push(key);
        const work = Promise.withResolvers<undefined>();
        running.set(key, work);
        await work.promise;
      };
      queue.add({ key, repeats: false, run, ...more });
    },
    async end(key, error) {
      const work = running.get(key)!;
      running.delete(key);
      if (error) work.reject(error);
      else work.resolve(undefined);
      await new Promise((resolve) => setImmediate(resolve));
    },
  };
}

describe('a task queue', () => {
  it('runs tasks in the order in which they were added, a few at a time', async () => {
    const { queue, add, end, started } = open(2);
    for (const key of ['a', 'b', 'c', 'd']) add(key);
    assert.deepEqual(started, ['a', 'b']);
    assert.deepEqual(queue.count(), { queued: 2, running: 2 });
    await end('b');
    assert.deepEqual(started, ['a', 'b', 'c']);
    await end('a');
    assert.deepEqual(started, ['a', 'b', 'c', 'd']);
  });

  it('runs the lowest rank of the first task’s group next', async () => {
    const { add, end, started } = open(1);
    add('running');
    add('x2', { order: { group: 'x', rank: 2 } });
    add('y0', { order: { group: 'y', rank: 0 } });
    add('x1', { order: { group: 'x', rank: 1 } });
    add('plain');
    for (const key of ['running', 'x1', 'x2', 'y0']) await end(key);
    assert.deepEqual(started, ['running', 'x1', 'x2', 'y0', 'plain']);
  });

  it('queues a key once', async () => {
    const { queue, add, end, started } = open(1);
    for (const key of ['a', 'b', 'b', 'b']) add(key);
    assert.equal(queue.count().queued, 1);
    await end('a');
    await end('b');
    assert.deepEqual(started, ['a', 'b']);
  });

  it('queues a running key again only if the task repeats, and never runs it twice at once', async () => {
    const { queue, add, end, started } = open(2);
    add('a');
    add('a');
    add('b', { repeats: true });
    add('b', { repeats: true });
    assert.deepEqual(queue.count(), { queued: 1, running: 2 });
    await end('a');
    assert.deepEqual(started, ['a', 'b']);
    await end('b');
    assert.deepEqual(started, ['a', 'b', 'b']);
  });

  it('runs work at once unless its key is queued or running', async () => {
    const { queue, add, end, started } = open(1);
    add('running');
    add('queued');
    const work = (): Promise<string> => Promise.resolve('done');
    assert.equal(await queue.runNow('running', work), null);
    assert.equal(await queue.runNow('queued', work), null);
    assert.equal(await queue.runNow('other', work), 'done');
    const held = Promise.withResolvers<string>();
    const now = queue.runNow('held', () => held.promise);
    add('held');
    add('again', { repeats: true });
    assert.equal(queue.count().queued, 2);
    held.resolve('done');
    assert.equal(await now, 'done');
    await assert.rejects(
      queue.runNow('fails', () => Promise.reject(new Error('no'))),
      /no/,
    );
    for (const key of ['running', 'queued', 'again']) await end(key);
    assert.deepEqual(started, ['running', 'queued', 'again']);
  });

  it('reports failures, and continues', async () => {
    const { add, end, started, ended } = open(1);
    add('a');
    add('b');
    await end('a', new Error('no'));
    await end('b');
    assert.deepEqual(started, ['a', 'b']);
    assert.deepEqual(ended, [
      ['a', 'no'],
      ['b', null],
    ]);
  });

  it('drops queued tasks, and lets running ones end', async () => {
    const { queue, add, end, started } = open(1);
    for (const key of ['a', 'b', 'c']) add(key);
    queue.drop(({ key }) => key === 'b');
    await end('a');
    assert.deepEqual(started, ['a', 'c']);
  });

  it('is idle once nothing is queued or running', async () => {
    const { queue, add, end } = open(1);
    await queue.waitUntilIdle();
    add('a');
    add('b');
    let isIdle = false;
    const idle = queue.waitUntilIdle().then(() => (isIdle = true));
    await end('a');
    assert.equal(isIdle, false);
    await end('b');
    await idle;
  });
});
