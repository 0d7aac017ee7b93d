import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { maxAttempts } from '../../../../core/limits.ts';
import { storeHash } from '../../../../core/nix/store-path.ts';
import { listingKey, manifestKey, narInfoKey, waitingKey } from '../../../../core/cache/layout.ts';
import { listKeys } from '../../../support/assert/bytes.ts';
import { createTestCache } from '../../../support/cache/kit.ts';
import type { TestCache } from '../../../support/cache/kit.ts';
import { testPath } from '../../../support/cache/paths.ts';
import { CrashError } from '../../../support/buckets/crash.ts';
import { faultyBucket } from '../../../support/buckets/faulty-bucket.ts';
import type { BucketHooks } from '../../../support/buckets/memory-bucket.ts';
import type { Publisher } from '../../../../core/cache/publish/publisher.ts';

const hourMs = 3_600_000;
const one = await testPath('one');
const killer = await testPath('killer');
const three = await testPath('three');

const killerHash = storeHash(killer.info.path);

/** Returns a publisher that crashes before a fatal operation on `fatalKey`. All later operations fail. */
function doomed(
  cache: TestCache,
  fatalKey = narInfoKey(killerHash),
  fatal: readonly string[] = ['put'],
): Publisher {
  let isDead = false;
  const hooks: BucketHooks = {
    before(operation, key) {
      isDead ||= fatal.includes(operation) && key === fatalKey;
      if (isDead) throw new CrashError(`killed at ${key}`);
    },
  };
  return cache.publisher({ hooks });
}

describe('a path that crashes its publisher', () => {
  it('is rejected after five crashes, and the rest of its batch is published', async () => {
    const cache = createTestCache();
    const id = await cache.stage([one, killer, three]);
    for (let deaths = 0; deaths <= maxAttempts; deaths += 1) {
      assert.equal(await cache.receipt(id.upload, killer.info), null, `after ${deaths} deaths`);
      assert.equal(await cache.receipt(id.upload, three.info), null);
      await assert.rejects(cache.publish(id, doomed(cache)), CrashError);
      cache.advance(hourMs);
    }
    const published = await cache.publish(id, doomed(cache));
    assert.deepEqual(
      published.map(({ outcome }) => outcome.code ?? outcome.status),
      ['exists', 'failed', 'published'],
    );
    assert.equal((await cache.receipt(id.upload, killer.info))?.code, 'failed');
    assert.deepEqual(await listKeys(cache.private, 'attempts/'), []);
    assert.deepEqual(await listKeys(cache.staging, 'staging/'), []);
  });

  it('is rejected also after unexpected errors that the process survives', async () => {
    const cache = createTestCache();
    const id = await cache.stage([killer]);
    const before: BucketHooks['before'] = (operation, key) => {
      if (operation === 'put' && key === narInfoKey(killerHash)) {
        throw new TypeError('a fault of niche');
      }
    };
    const faulty = cache.publisher({ hooks: { before } });
    for (let deaths = 0; deaths <= maxAttempts; deaths += 1) {
      await assert.rejects(cache.publish(id, faulty), TypeError);
      cache.advance(hourMs);
    }
    const [published] = await cache.publish(id, faulty);
    assert.equal(published?.outcome.code, 'failed');
    assert.deepEqual(await listKeys(cache.private, 'attempts/'), []);
  });

  it('is not rejected if an attempt published it before it crashed', async () => {
    const cache = createTestCache();
    const id = await cache.stage([killer]);
    for (let deaths = 0; deaths <= maxAttempts; deaths += 1) {
      await assert.rejects(cache.publish(id, doomed(cache, listingKey(killerHash))), CrashError);
      cache.advance(hourMs);
    }
    assert.notEqual(await cache.public.head(narInfoKey(killerHash)), null);
    const [published] = await cache.publish(id, doomed(cache, listingKey(killerHash)));
    assert.equal(published?.outcome.status, 'exists');
    assert.equal((await cache.receipt(id.upload, killer.info))?.status, 'exists');
    assert.deepEqual(await listKeys(cache.staging, 'staging/'), []);
  });

  it('is rejected although three last looks for it crash too', async () => {
    const cache = createTestCache();
    const id = await cache.stage([one, killer, three]);
    const publisher = (): Publisher => doomed(cache, narInfoKey(killerHash), ['put', 'get']);
    for (let deaths = 0; deaths <= maxAttempts + 3; deaths += 1) {
      assert.equal(await cache.receipt(id.upload, killer.info), null, `after ${deaths} deaths`);
      await assert.rejects(cache.publish(id, publisher()), CrashError);
      cache.advance(hourMs);
    }
    await cache.publish(id, publisher());
    assert.equal((await cache.receipt(id.upload, killer.info))?.code, 'failed');
    assert.equal((await cache.receipt(id.upload, three.info))?.status, 'published');
    assert.deepEqual(await listKeys(cache.private, 'attempts/'), []);
    assert.deepEqual(await listKeys(cache.staging, 'staging/'), []);
  });

  it('is a conflict if other contents were published meanwhile', async () => {
    const cache = createTestCache();
    const id = await cache.stage([killer]);
    for (let deaths = 0; deaths <= maxAttempts; deaths += 1) {
      await assert.rejects(cache.publish(id, doomed(cache)), CrashError);
      cache.advance(hourMs);
    }
    await cache.publish(await cache.stage([await testPath('killer', { contents: 'other' })]));
    const [published] = await cache.publish(id);
    assert.equal(published?.outcome.code, 'conflict');
  });

  it('is not published later, if an attempt parked it before the crash', async () => {
    const cache = createTestCache();
    const dependent = await testPath('dependent', { references: [one] });
    const id = await cache.stage([dependent]);
    const marker = waitingKey({
      reference: storeHash(one.info.path),
      storeHash: storeHash(dependent.info.path),
      upload: id.upload,
    });
    for (let deaths = 0; deaths <= maxAttempts; deaths += 1) {
      await assert.rejects(cache.publish(id, doomed(cache, marker)), CrashError);
      cache.advance(hourMs);
    }
    assert.equal((await listKeys(cache.private, 'pending/')).length, 2);
    const [rejected] = await cache.publish(id);
    assert.equal(rejected?.outcome.code, 'failed');
    await cache.publish(await cache.stage([one]));
    assert.equal(await cache.public.head(narInfoKey(storeHash(dependent.info.path))), null);
    assert.deepEqual(await listKeys(cache.private, 'pending/'), []);
  });

  it('is not rejected while earlier attempts may still run', async () => {
    const cache = createTestCache();
    const id = await cache.stage([killer]);
    for (let n = 0; n < 10; n += 1) {
      await assert.rejects(cache.publish(id, doomed(cache)), CrashError);
      cache.advance(1000);
    }
    assert.equal((await cache.publish(id))[0]?.outcome.status, 'published');
  });

  it('is published once it no longer crashes', async () => {
    const cache = createTestCache();
    const id = await cache.stage([killer]);
    for (let deaths = 0; deaths < maxAttempts; deaths += 1) {
      await assert.rejects(cache.publish(id, doomed(cache)), CrashError);
      cache.advance(hourMs);
    }
    assert.equal((await cache.publish(id))[0]?.outcome.status, 'published');
    assert.deepEqual(await listKeys(cache.private, 'attempts/'), []);
  });
});

describe('a manifest at which its publisher fails', () => {
  it('is rejected after five unexpected errors', async () => {
    const cache = createTestCache();
    const id = await cache.stage([one, three]);
    const before: BucketHooks['before'] = (operation, key) => {
      if (operation === 'get' && key === manifestKey(id)) throw new RangeError('a fault of niche');
    };
    const faulty = cache.publisher({ hooks: { before } });
    for (let failures = 0; failures <= maxAttempts; failures += 1) {
      assert.equal(await cache.receipt(id.upload, id.batch), null, `after ${failures} failures`);
      await assert.rejects(cache.publish(id, faulty), RangeError);
      cache.advance(hourMs);
    }
    const [rejected] = await cache.publish(id, faulty);
    assert.equal(rejected?.outcome.code, 'failed');
    assert.match(rejected.outcome.message ?? '', /the manifest staging.* crashed 5 times/);
    assert.equal((await cache.receipt(id.upload, id.batch))?.code, 'failed');
    assert.deepEqual(await listKeys(cache.private, 'attempts/'), []);
    assert.deepEqual(await listKeys(cache.staging, 'staging/'), []);
  });

  it('is published once the fault is repaired', async () => {
    const cache = createTestCache();
    const id = await cache.stage([one]);
    const before: BucketHooks['before'] = (operation, key) => {
      if (operation === 'get' && key === manifestKey(id)) throw new RangeError('a fault of niche');
    };
    for (let failures = 0; failures < maxAttempts; failures += 1) {
      await assert.rejects(cache.publish(id, cache.publisher({ hooks: { before } })), RangeError);
      cache.advance(hourMs);
    }
    assert.equal((await cache.publish(id))[0]?.outcome.status, 'published');
  });

  it('is rejected at once when it is nested too deep', async () => {
    const cache = createTestCache();
    for (const levels of [1000, 200_000]) {
      const id = await cache.stageRaw(
        `{"version":1,"encoding":"none","paths":${'['.repeat(levels)}${']'.repeat(levels)}}`,
        null,
      );
      const [rejected] = await cache.publish(id);
      assert.equal(rejected?.outcome.code, 'malformed-manifest');
      assert.deepEqual(await listKeys(cache.staging, 'staging/'), []);
      assert.deepEqual(await listKeys(cache.private, 'attempts/'), []);
    }
  });
});

describe('an outage', () => {
  for (const fault of ['unavailable', 'denied', 'full'] as const) {
    it(`of storage that is ${fault} does not count as a crash`, async () => {
      const cache = createTestCache();
      const id = await cache.stage([one]);
      const isAffected = (operation: string, key: string): boolean =>
        operation === 'put' && key.startsWith('nar/');
      for (let n = 0; n < 8; n += 1) {
        const publisher = cache.publisher({
          public: faultyBucket(cache.public, (operation, key) =>
            isAffected(operation, key) ? fault : undefined,
          ),
        });
        await assert.rejects(cache.publish(id, publisher), { code: `storage-${fault}` });
        assert.deepEqual(await listKeys(cache.private, 'attempts/'), []);
        cache.advance(hourMs);
      }
      assert.deepEqual([...cache.publicStore.objects.keys()], []);
      assert.equal((await cache.publish(id))[0]?.outcome.status, 'published');
    });
  }

  it('in the middle of the staged NARs rejects nothing', async () => {
    const cache = createTestCache();
    for (const paths of [[one], [killer, three]]) {
      const id = await cache.stage(paths);
      const broken = faultyBucket(cache.staging, (operation, key) =>
        operation === 'get' && key.endsWith('.nars') ? 'broken' : undefined,
      );
      const publisher = cache.publisher({ staging: broken });
      await assert.rejects(cache.publish(id, publisher), { code: 'storage-unavailable' });
      assert.equal(await cache.receipt(id.upload, paths[0]!.info), null);
      assert.equal((await cache.publish(id))[0]?.outcome.status, 'published');
    }
  });

  it('never counts as a missing narinfo', async () => {
    const cache = createTestCache();
    await cache.publish(await cache.stage([one]));
    const dependent = await testPath('dependent', { references: [one] });
    const id = await cache.stage([dependent]);
    for (const fault of ['unavailable', 'denied'] as const) {
      const down = faultyBucket(cache.public, (operation) =>
        operation === 'get' ? fault : undefined,
      );
      const publisher = cache.publisher({ public: down });
      await assert.rejects(cache.publish(id, publisher), { code: `storage-${fault}` });
      assert.deepEqual(await listKeys(cache.private, 'pending/'), []);
    }
  });
});
