import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { manifestKey } from '../../../core/cache/layout.ts';
import { createLocalPublisher } from '../../../core/cache/publish/local-publisher.ts';
import type { PublishResult } from '../../../core/cache/publish/report.ts';
import { NicheError } from '../../../core/errors.ts';
import { createWorker } from '../../../functions/worker/worker.ts';
import type { Worker, WorkerEvent, WorkerOptions } from '../../../functions/worker/worker.ts';
import { auditRecords, createTestCache } from '../../support/cache/kit.ts';
import type { TestCache } from '../../support/cache/kit.ts';
import { testPath } from '../../support/cache/paths.ts';
import { memoryBucket } from '../../support/buckets/memory-bucket.ts';
import type { BucketHooks } from '../../support/buckets/memory-bucket.ts';
import { until } from '../../support/assert/until.ts';

interface Running {
  readonly worker: Worker;
  readonly published: PublishResult[];
  readonly events: WorkerEvent[];
  readonly stop: () => Promise<void>;
}

function start(
  cache: TestCache,
  hooks: BucketHooks = {},
  options: Partial<WorkerOptions> = {},
): Running {
  const published: PublishResult[] = [];
  const events: WorkerEvent[] = [];
  const worker = createWorker({
    open: (onEnded) =>
      createLocalPublisher({
        public: memoryBucket({ store: cache.publicStore, now: cache.now, ...hooks }),
        staging: memoryBucket({ store: cache.stagingStore, now: cache.now, ...hooks }),
        private: memoryBucket({ store: cache.privateStore, now: cache.now, ...hooks }),
        config: cache.config,
        signers: cache.signers,
        upstreams: cache.upstreams,
        version: 'test',
        now: cache.now,
        onPublished: (one) => published.push(one),
        onEnded,
      }),
    intervalMs: 5,
    sweepIntervalMs: 60_000,
    graceMs: 10_000,
    onEvent: (event) => events.push(event),
    ...options,
  });
  const controller = new AbortController();
  const ended = worker.run(controller.signal);
  return {
    worker,
    published,
    events,
    stop() {
      controller.abort();
      return ended;
    },
  };
}

const staged = (cache: TestCache): string[] =>
  [...cache.stagingStore.objects.keys()].filter((key) => key.startsWith('staging/'));

describe('a worker', () => {
  test('publishes batches staged before and while it runs', async () => {
    const cache = createTestCache();
    const [first, second] = [await testPath('first'), await testPath('second')];
    await cache.stage([first]);
    const { published, stop, worker } = start(cache);
    await until('a batch is published', () => published.length === 1);
    await cache.stage([second]);
    await until('two batches are published', () => published.length === 2);
    await until('nothing runs', () => worker.health().running === 0);
    await stop();
    assert.deepEqual(
      published.map(({ path, outcome }) => [path, outcome.status]),
      [first, second].map(({ info }) => [info.path, 'published']),
    );
    assert.deepEqual(staged(cache), []);
  });

  test('publishes the batch of a notification at once, with its origin in the audit log', async () => {
    const cache = createTestCache();
    const { worker, published, stop } = start(cache, {}, { intervalMs: 3_600_000 });
    await until('a run succeeds', () => worker.health().lastSuccess !== null);
    const id = await cache.stage([await testPath('told')]);
    const origin = { via: 'event', principal: 'ci' } as const;
    const { etag } = (await cache.staging.head(manifestKey(id))) ?? {};
    worker.submit(id, { ...origin, etag });
    worker.submit(id, { ...origin, etag });
    await until('a batch is published', () => published.length === 1);
    await stop();
    const records = await auditRecords(cache);
    assert.deepEqual(
      records.map((record) => record.origin),
      [origin],
    );
  });

  test('survives an outage, and reports its start and end once', async () => {
    const cache = createTestCache();
    let isDown = true;
    let asked = 0;
    const { published, events, stop, worker } = start(cache, {
      before(operation) {
        if (!isDown || operation !== 'list') return;
        asked += 1;
        throw new NicheError('storage-unavailable', 'down');
      },
    });
    await until('it has polled often', () => asked > 20);
    const failing = worker.health();
    assert.equal(failing.ok, true, 'an outage of a moment is no reason for a restart');
    assert.equal(failing.lastSuccess, null);
    assert.equal(failing.lastFailure, 'storage-unavailable');
    await cache.stage([await testPath('later')]);
    isDown = false;
    await until('a batch is published', () => published.length === 1);
    await stop();
    const told = events.filter(({ event }) => event === 'failed' || event === 'recovered');
    assert.deepEqual(
      told
        .filter((event) => 'action' in event && event.action === 'listing staged batches')
        .map(({ event }) => event),
      ['failed', 'recovered'],
    );
  });

  test('holds a failed batch while others continue', async () => {
    const cache = createTestCache();
    const poor = await testPath('poor');
    const id = await cache.stage([poor]);
    let tries = 0;
    const { published, events, stop } = start(cache, {
      before(operation, key) {
        if (operation !== 'get' || !key.startsWith(`staging/${id.upload}/`)) return;
        tries += 1;
        throw new NicheError('storage-denied', 'not this one');
      },
    });
    await until('it has tried once', () => tries > 0);
    for (let number = 0; number < 20; number += 1) {
      await cache.stage([await testPath(`fine-${number}`)]);
      await until('the next batch is published', () => published.length === number + 1);
    }
    await stop();
    assert.ok(tries < 5, `${tries} tries`);
    assert.equal(events.filter(({ event }) => event === 'failed').length, 1);
    assert.notDeepEqual(staged(cache), [], 'it stays staged');
  });

  test('finishes the tasks in flight after a stop, and starts none', async () => {
    const cache = createTestCache();
    for (let number = 0; number < 10; number += 1) {
      await cache.stage([await testPath(`path-${number}`)]);
    }
    const gate = Promise.withResolvers<undefined>();
    let isHeld = false;
    const { published, stop, worker, events } = start(cache, {
      async before(operation, key) {
        if (operation !== 'put' || !key.endsWith('.narinfo')) return;
        isHeld = true;
        await gate.promise;
      },
    });
    await until('two batches run', () => isHeld && worker.health().running === 2);
    assert.equal(worker.health().queued, 8);
    const stopped = stop();
    await sleep(20);
    gate.resolve(undefined);
    await stopped;
    assert.equal(published.length, 2);
    assert.equal(staged(cache).filter((key) => key.endsWith('.json')).length, 8);
    assert.deepEqual(
      [...cache.privateStore.objects.keys()].filter((key) => key.startsWith('attempts/')),
      [],
    );
    assert.ok(!events.some(({ event }) => event === 'abandoned'));
  });

  test('abandons and reports tasks that exceed the grace time', async () => {
    const cache = createTestCache();
    await cache.stage([await testPath('stuck')]);
    const never = Promise.withResolvers<undefined>();
    let isHeld = false;
    const { stop, events } = start(
      cache,
      {
        async before(operation, key) {
          if (operation !== 'put' || !key.endsWith('.narinfo')) return;
          isHeld = true;
          await never.promise;
        },
      },
      { graceMs: 20 },
    );
    await until('a batch is held', () => isHeld);
    // In a process its storage keeps the event loop alive. Here nothing does.
    const keepAlive = setInterval(() => undefined, 10);
    await stop();
    clearInterval(keepAlive);
    assert.deepEqual(events.at(-1), { event: 'abandoned', running: 1 });
  });

  test('several workers publish everything', async () => {
    const cache = createTestCache();
    const paths = await Promise.all(
      Array.from({ length: 30 }, (_, number) => testPath(`many-${number}`)),
    );
    for (const path of paths) await cache.stage([path]);
    const workers = [start(cache), start(cache), start(cache)];
    await until('nothing is staged', () => staged(cache).length === 0);
    await Promise.all(workers.map(({ stop }) => stop()));
    const outcomes = workers.flatMap(({ published }) => published);
    const done = outcomes.filter(({ outcome }) => outcome.status === 'published');
    assert.deepEqual(
      done.map(({ path }) => path).sort(),
      paths.map(({ info }) => info.path).sort(),
    );
    assert.ok(outcomes.every(({ outcome }) => /^(?:published|exists)$/.test(outcome.status)));
    assert.deepEqual(
      workers.flatMap(({ events }) => events).filter(({ event }) => event === 'failed'),
      [],
    );
  });
});
