import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { BatchId, WaitingMarker } from '../../../../core/cache/layout.ts';
import type { Publisher } from '../../../../core/cache/publish/publisher.ts';
import { NicheError } from '../../../../core/errors.ts';
import { maxAttempts } from '../../../../core/limits.ts';
import { listKeys } from '../../../support/assert/bytes.ts';
import { CrashError, crashAtWrite } from '../../../support/buckets/crash.ts';
import type { BucketHooks } from '../../../support/buckets/memory-bucket.ts';
import { checkInvariants } from '../../../support/cache/invariants.ts';
import { createTestCache, dayMs } from '../../../support/cache/kit.ts';
import type { TestCache } from '../../../support/cache/kit.ts';
import { testPath } from '../../../support/cache/paths.ts';
import { chainHooks } from '../../../support/cache/scenario.ts';
import { watchInvariants } from '../../../support/cache/watch.ts';

const hourMs = 3_600_000;
const none = { config: { compression: { kind: 'none', level: 3 } } };
const glibc = await testPath('glibc');
const waiters = await Promise.all(
  Array.from({ length: 512 }, (_, n) => testPath(`waiter-${n}`, { references: [glibc] })),
);

/** Stages and publishes paths that all wait for glibc. */
async function parkAll(cache: TestCache, paths = waiters): Promise<BatchId[]> {
  const upload = cache.newUpload();
  const ids: BatchId[] = [];
  for (let batch = 0; batch * 256 < paths.length; batch += 1) {
    const id = { upload, batch };
    ids.push(await cache.stage(paths.slice(batch * 256, (batch + 1) * 256), { id }));
    await cache.publish(id);
  }
  return ids;
}

/** Returns a publisher that its platform ends after `limit` wake-ups. It does nothing more then. */
function cutOff(cache: TestCache, limit: number, sent: WaitingMarker[]): Publisher {
  let left = limit;
  const assertAlive = (): void => {
    if (left < 0) throw new CrashError('the time limit ended the publisher');
  };
  return cache.publisher({
    hooks: { before: assertAlive },
    wake(waiting) {
      left -= 1;
      assertAlive();
      sent.push(waiting);
      return Promise.resolve();
    },
  });
}

async function assertAllPublished(cache: TestCache, upload: string): Promise<void> {
  for (const { info } of waiters) {
    assert.match((await cache.receipt(upload, info))?.status ?? 'none', /^(published|exists)$/);
  }
  assert.deepEqual(await listKeys(cache.private, 'pending/'), []);
  assert.deepEqual(await listKeys(cache.private, 'waiting/'), []);
  await checkInvariants({ ...cache, publicKeys: cache.config.publicKeys });
}

describe('a path that 512 others wait for', () => {
  it('has its receipt before any of them is woken', async () => {
    const cache = createTestCache(none);
    await parkAll(cache);
    const id = await cache.stage([glibc]);
    const receipts: (string | undefined)[] = [];
    const publisher = cache.publisher({
      async wake() {
        receipts.push((await cache.receipt(id.upload, glibc.info))?.status);
      },
    });
    await publisher.publishBatch(id);
    assert.deepEqual(receipts, Array(512).fill('published'));
  });

  it('is reported as published, however often its publisher is cut off while it wakes them', async () => {
    const cache = createTestCache(none);
    const [{ upload } = assert.fail()] = await parkAll(cache);
    const id = await cache.stage([glibc]);
    const sent: WaitingMarker[] = [];
    let attempts = 0;
    for (let isCutOff = true; isCutOff; attempts += 1) {
      isCutOff = await cutOff(cache, 60, sent)
        .publishBatch(id)
        .then(() => false)
        .catch((error: unknown) => {
          assert.ok(error instanceof CrashError, String(error));
          return true;
        });
      assert.equal((await cache.receipt(id.upload, glibc.info))?.status, 'published');
      cache.advance(hourMs);
    }
    // Each attempt wakes one group of 32, and begins the next.
    assert.ok(attempts > maxAttempts + 1);
    assert.equal(attempts, 16);
    const distinct = new Set(sent.map(({ storeHash: hash }) => hash));
    assert.equal(distinct.size, 512);
    for (const waiting of sent) await cache.publisher().resumePath(waiting);
    await assertAllPublished(cache, upload);
  });

  it('continues also where it was itself resumed', async () => {
    const cache = createTestCache(none);
    const base = await testPath('base');
    const middle = await testPath('middle', { references: [base] });
    const leaves = await Promise.all(
      Array.from({ length: 100 }, (_, n) => testPath(`leaf-${n}`, { references: [middle] })),
    );
    await parkAll(cache, leaves);
    const id = await cache.stage([middle]);
    await cache.publish(id);
    await cache.publisher().publishBatch(await cache.stage([base]));
    const [waiting = assert.fail()] = cache.wakes.splice(0);
    const sent: WaitingMarker[] = [];
    await assert.rejects(cutOff(cache, 60, sent).resumePath(waiting), CrashError);
    assert.equal((await cache.receipt(id.upload, middle.info))?.status, 'published');
    await cutOff(cache, Infinity, sent).resumePath(waiting);
    assert.equal(new Set(sent.map(({ storeHash: hash }) => hash)).size, leaves.length);
    assert.ok(sent.length < 2 * leaves.length - 32, `${sent.length} wake-ups`);
    assert.equal(await cache.publisher().resumePath(waiting), null);
  });

  it('is reported as published when the queue of wake-ups is down', async () => {
    const cache = createTestCache(none);
    await parkAll(cache, waiters.slice(0, 3));
    const id = await cache.stage([glibc]);
    const down = cache.publisher({
      wake: () => Promise.reject(new NicheError('storage-unavailable', 'the queue is down')),
    });
    await assert.rejects(down.publishBatch(id), { code: 'storage-unavailable' });
    assert.equal((await cache.receipt(id.upload, glibc.info))?.status, 'published');
    assert.equal((await listKeys(cache.private, 'waiting/')).length, 3);
    await cache.publish(id);
    assert.deepEqual(await listKeys(cache.private, 'pending/'), []);
  });
});

describe('a wake-up', () => {
  const some = waiters.slice(0, 3);

  /** Publishes glibc in a process with these hooks, whose wake-ups get lost when it crashes. */
  async function publishGlibc(cache: TestCache, id: BatchId, hooks: BucketHooks): Promise<void> {
    const publisher = cache.publisher({ hooks });
    try {
      await publisher.publishBatch(id);
      for (const waiting of cache.wakes) await publisher.resumePath(waiting);
    } catch (error) {
      assert.ok(error instanceof CrashError, String(error));
    }
    cache.wakes.length = 0;
  }

  for (const recovery of ['the batch again', 'a sweep'] as const) {
    it(`is not lost by a crash at any write, with ${recovery} afterwards`, async () => {
      for (let nth = 1; ; nth += 1) {
        const cache = createTestCache(none);
        const [{ upload } = assert.fail()] = await parkAll(cache, some);
        const id = await cache.stage([glibc]);
        const watch = watchInvariants(cache);
        const crash = crashAtWrite(nth, 'before');
        await publishGlibc(cache, id, chainHooks(crash, watch));
        cache.advance(hourMs);
        if (recovery === 'the batch again') await cache.publish(id);
        await cache.sweep();
        const about = `crash before write ${nth}`;
        for (const { info } of some) {
          const status = (await cache.receipt(upload, info))?.status ?? 'none';
          assert.match(status, /^(published|exists)$/, about);
        }
        watch.assertKept();
        const pending = await listKeys(cache.private, 'pending/');
        // Attachments without a record are leftovers, which a later sweep deletes.
        assert.deepEqual(
          pending.filter((key) => key.endsWith('.json')),
          [],
          about,
        );
        assert.deepEqual(await listKeys(cache.private, 'waiting/'), [], about);
        if (!crash.hasCrashed()) break;
      }
    });
  }

  it('that comes too early stores its marker again', async () => {
    const cache = createTestCache(none);
    await parkAll(cache, some);
    const markers = await listKeys(cache.private, 'waiting/');
    // Another path with the hash of glibc: it wakes them, and they still wait.
    const info = { ...glibc.info, path: `${glibc.info.path}-renamed` };
    await cache.publish(await cache.stage([{ ...glibc, info }]));
    assert.deepEqual(await listKeys(cache.private, 'waiting/'), markers);
  });

  it('that is lost after its marker was deleted is made up for by the sweep', async () => {
    const cache = createTestCache(none);
    const [{ upload } = assert.fail()] = await parkAll(cache, some);
    await cache.publisher().publishBatch(await cache.stage([glibc]));
    cache.wakes.length = 0;
    assert.deepEqual(await listKeys(cache.private, 'waiting/'), []);
    cache.advance(dayMs);
    await cache.sweep();
    for (const { info } of some) {
      assert.equal((await cache.receipt(upload, info))?.status, 'published');
    }
  });
});
