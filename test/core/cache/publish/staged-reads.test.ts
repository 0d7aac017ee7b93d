import assert from 'node:assert/strict';
import { chmod, rm, symlink } from 'node:fs/promises';
import path from 'node:path';
import { describe, it } from 'node:test';
import { maxAttempts } from '../../../../core/limits.ts';
import {
  logKey,
  manifestKey,
  narInfoKey,
  stagedLogKey,
  stagedNarsKey,
} from '../../../../core/cache/layout.ts';
import type { BatchId } from '../../../../core/cache/layout.ts';
import type { Publisher } from '../../../../core/cache/publish/publisher.ts';
import { baseNameOf, storeHash } from '../../../../core/nix/store-path.ts';
import { listKeys } from '../../../support/assert/bytes.ts';
import { faultyBucket } from '../../../support/buckets/faulty-bucket.ts';
import type { FaultChooser } from '../../../support/buckets/faulty-bucket.ts';
import { temporaryFileBucket } from '../../../support/buckets/file-bucket.ts';
import { createTestCache } from '../../../support/cache/kit.ts';
import type { TestCache } from '../../../support/cache/kit.ts';
import { inventedPath, testPath } from '../../../support/cache/paths.ts';

const hourMs = 3_600_000;
const one = await testPath('one');
const two = await testPath('two');

type Fault = ReturnType<FaultChooser>;

/** Returns a publisher to which reading the staged objects that `isAffected` chooses fails. */
function failing(cache: TestCache, fault: Fault, isAffected: (key: string) => boolean): Publisher {
  const staging = faultyBucket(cache.staging, (operation, key) =>
    operation === 'get' && isAffected(key) ? fault : undefined,
  );
  return cache.publisher({ staging });
}

/** Publishes the batch in vain, `times` times, an hour apart. */
async function fail(cache: TestCache, id: BatchId, by: Publisher, times: number): Promise<void> {
  for (let failures = 0; failures < times; failures += 1) {
    await assert.rejects(cache.publish(id, by), { code: /^storage-/ }, `after ${failures}`);
    assert.deepEqual(await listKeys(cache.staging, `receipts/${id.upload}/`), []);
    cache.advance(hourMs);
  }
}

describe('a staged object that no publisher can read', () => {
  for (const fault of ['denied', 'unavailable'] as const) {
    it(`rejects its batch after five attempts: a manifest that is ${fault}`, async () => {
      const cache = createTestCache();
      const id = await cache.stage([one]);
      await cache.stage([two]);
      const publisher = failing(cache, fault, (key) => key === manifestKey(id));
      await fail(cache, id, publisher, maxAttempts);
      const [rejected] = await cache.publish(id, publisher);
      assert.equal(rejected?.outcome.code, 'failed');
      assert.match(rejected.outcome.message ?? '', /5 times to read staging\/.*injected: get/);
      assert.equal((await cache.receipt(id.upload, id.batch))?.code, 'failed');
      assert.deepEqual(await listKeys(cache.private, 'attempts/'), []);
      assert.equal(await cache.staging.head(manifestKey(id)), null);
    });
  }

  for (const fault of ['denied', 'unavailable', 'broken'] as const) {
    it(`rejects all paths of its batch together: NARs that are ${fault}`, async () => {
      for (const paths of [[one], [one, two]]) {
        const cache = createTestCache();
        const id = await cache.stage(paths);
        const publisher = failing(cache, fault, (key) => key === stagedNarsKey(id, 'none'));
        await fail(cache, id, publisher, maxAttempts);
        const rejected = await cache.publish(id, publisher);
        assert.deepEqual(
          rejected.map(({ outcome }) => outcome.code),
          paths.map(() => 'failed'),
        );
        assert.deepEqual(await listKeys(cache.staging, 'staging/'), []);
        assert.deepEqual(await listKeys(cache.private, 'attempts/'), []);
      }
    });
  }

  it('rejects its batch if only a receipt is readable', async () => {
    const cache = createTestCache();
    await cache.publish(await cache.stage([two]));
    const id = await cache.stage([one]);
    const publisher = failing(cache, 'denied', (key) => key.startsWith('staging/'));
    await fail(cache, id, publisher, maxAttempts);
    assert.equal((await cache.publish(id, publisher))[0]?.outcome.code, 'failed');
  });

  it('lets a sweep finish once it is rejected', async () => {
    const cache = createTestCache();
    const id = await cache.stage([one]);
    await cache.publish(await cache.stage([two]));
    const publisher = failing(cache, 'denied', (key) => key === manifestKey(id));
    cache.advance(hourMs);
    for (let failures = 0; failures < maxAttempts; failures += 1) {
      await assert.rejects(cache.sweep(publisher), { code: 'storage-denied' });
      cache.advance(hourMs);
    }
    assert.equal((await cache.sweep(publisher)).published[0]?.outcome.code, 'failed');
    assert.deepEqual((await cache.sweep(publisher)).published, []);
  });

  it('is published if it becomes readable before', async () => {
    const cache = createTestCache();
    const id = await cache.stage([one]);
    const publisher = failing(cache, 'denied', (key) => key === stagedNarsKey(id, 'none'));
    await fail(cache, id, publisher, maxAttempts);
    assert.equal((await cache.publish(id))[0]?.outcome.status, 'published');
    assert.deepEqual(await listKeys(cache.private, 'attempts/'), []);
  });

  it('counts once in the time limit of an attempt', async () => {
    const cache = createTestCache();
    const id = await cache.stage([one]);
    const publisher = failing(cache, 'denied', (key) => key === stagedNarsKey(id, 'none'));
    for (let failures = 0; failures < 3 * maxAttempts; failures += 1) {
      await assert.rejects(cache.publish(id, publisher), { code: 'storage-denied' });
      cache.advance(1000);
    }
    cache.advance(hourMs);
    await assert.rejects(cache.publish(id, publisher), { code: 'storage-denied' });
    assert.equal((await cache.publish(id))[0]?.outcome.status, 'published');
  });

  it('rejects its batch in a directory: a link in the place of the NARs', async () => {
    const cache = createTestCache();
    const id = await cache.stage([one]);
    const { bucket, directory, close } = await temporaryFileBucket();
    try {
      for (const [key, { bytes }] of cache.stagingStore.objects) await bucket.put(key, bytes);
      const nars = path.join(directory, stagedNarsKey(id, 'none'));
      await rm(nars);
      await symlink('/etc/hostname', nars);
      const publisher = cache.publisher({ staging: bucket });
      await fail(cache, id, publisher, maxAttempts);
      const [rejected] = await cache.publish(id, publisher);
      assert.equal(rejected?.outcome.code, 'failed');
      assert.match(rejected.outcome.message ?? '', /ELOOP/);
      assert.equal(await bucket.head(manifestKey(id)), null);
    } finally {
      await close();
    }
  });

  it('rejects its batch in a directory: a manifest without read permission', async (t) => {
    if (process.getuid?.() === 0) {
      t.skip('root reads every file');
      return;
    }
    const cache = createTestCache();
    const id = await cache.stage([one]);
    const { bucket, directory, close } = await temporaryFileBucket();
    try {
      for (const [key, { bytes }] of cache.stagingStore.objects) await bucket.put(key, bytes);
      await chmod(path.join(directory, manifestKey(id)), 0);
      const publisher = cache.publisher({ staging: bucket });
      await fail(cache, id, publisher, maxAttempts);
      const [rejected] = await cache.publish(id, publisher);
      assert.equal(rejected?.outcome.code, 'failed');
      assert.match(rejected.outcome.message ?? '', /EACCES/);
    } finally {
      await close();
    }
  });

  it('is left out if it is a log', async () => {
    const cache = createTestCache();
    const deriver = inventedPath('app.drv');
    const drvName = baseNameOf(deriver, '/nix/store');
    const app = await testPath('app', { deriver });
    const id = await cache.stage([app], { logs: { [drvName]: 'built' } });
    const log = stagedLogKey(id.upload, drvName);
    const publisher = failing(cache, 'denied', (key) => key === log);
    await fail(cache, id, publisher, maxAttempts);
    assert.equal((await cache.publish(id, publisher))[0]?.outcome.status, 'published');
    assert.notEqual(await cache.public.head(narInfoKey(storeHash(app.info.path))), null);
    assert.equal(await cache.public.head(logKey(drvName)), null);
    assert.deepEqual(await listKeys(cache.staging, 'staging/'), []);
  });
});

describe('a staging root that cannot be read', () => {
  for (const fault of ['denied', 'unavailable', 'integrity', 'broken'] as const) {
    it(`rejects nothing while it is ${fault}`, async () => {
      const cache = createTestCache();
      await cache.publish(await cache.stage([two]));
      const ids = [await cache.stage([one]), await cache.stage([two])];
      const publisher = failing(cache, fault, () => true);
      for (const id of ids) {
        await fail(cache, id, publisher, 2 * maxAttempts);
        assert.deepEqual(await listKeys(cache.private, 'attempts/'), []);
      }
      assert.equal((await cache.publish(ids[0]!))[0]?.outcome.status, 'published');
    });
  }

  it('loses no log', async () => {
    const cache = createTestCache();
    const deriver = inventedPath('app.drv');
    const drvName = baseNameOf(deriver, '/nix/store');
    const app = await testPath('app', { deriver });
    const id = await cache.stage([app], { logs: { [drvName]: 'built' } });
    let isDown = false;
    const publisher = failing(cache, 'unavailable', (key) => (isDown ||= key.endsWith('.log')));
    await assert.rejects(cache.publish(id, publisher), { code: 'storage-unavailable' });
    await cache.publish(id);
    assert.notEqual(await cache.public.head(logKey(drvName)), null);
  });
});
