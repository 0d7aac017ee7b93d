import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { manifestKey, waitingKey } from '../../../../core/cache/layout.ts';
import { storeHash } from '../../../../core/nix/store-path.ts';
import { listKeys } from '../../../support/assert/bytes.ts';
import { createTestCache, dayMs } from '../../../support/cache/kit.ts';
import { testPath } from '../../../support/cache/paths.ts';
import { CrashError, crashAtWrite } from '../../../support/buckets/crash.ts';

const hourMs = 3_600_000;
const glibc = await testPath('glibc');
const hello = await testPath('hello', { references: [glibc] });

describe('sweep', () => {
  it('publishes stale batches, and leaves fresh ones', async () => {
    const cache = createTestCache();
    const forgotten = await cache.stage([glibc]);
    cache.advance(hourMs);
    const fresh = await cache.stage([hello]);
    const report = await cache.sweep();
    assert.deepEqual(
      report.published.map(({ path, outcome }) => [path, outcome.status]),
      [[glibc.info.path, 'published']],
    );
    assert.equal(await cache.staging.head(manifestKey(forgotten)), null);
    assert.notEqual(await cache.staging.head(manifestKey(fresh)), null);
  });

  it('resumes a path whose reference was published, also one without its marker', async () => {
    for (const loseMarker of [false, true]) {
      const cache = createTestCache();
      const id = await cache.stage([hello]);
      await cache.publish(id);
      const waiting = { storeHash: storeHash(hello.info.path), upload: id.upload };
      const marker = waitingKey({ ...waiting, reference: storeHash(glibc.info.path) });
      assert.notEqual(await cache.private.head(marker), null);
      if (loseMarker) await cache.private.delete([marker]);
      // Published by a process whose wake-ups are lost.
      await cache.publisher().publishBatch(await cache.stage([glibc]));
      cache.wakes.length = 0;
      const report = await cache.sweep();
      assert.equal(report.published[0]?.outcome.status, 'published');
      assert.equal((await cache.receipt(id.upload, hello.info))?.status, 'published');
      assert.deepEqual(await listKeys(cache.private, 'pending/'), []);
      assert.deepEqual(await listKeys(cache.private, 'waiting/'), []);
    }
  });

  it('creates the marker of a waiting path that lacks one', async () => {
    const cache = createTestCache();
    await cache.publish(await cache.stage([hello]));
    const [marker] = await listKeys(cache.private, 'waiting/');
    await cache.private.delete([marker!]);
    await cache.sweep();
    assert.deepEqual(await listKeys(cache.private, 'waiting/'), [marker]);
  });

  it('rejects a path that has waited too long, and lists its missing references', async () => {
    const cache = createTestCache({ config: { limits: { waitingDays: 2 } } });
    const id = await cache.stage([hello]);
    await cache.publish(id);
    cache.advance(2 * dayMs - hourMs);
    await cache.sweep();
    assert.equal((await cache.receipt(id.upload, hello.info))?.status, 'waiting');
    cache.advance(hourMs);
    await cache.sweep();
    const receipt = await cache.receipt(id.upload, hello.info);
    assert.equal(receipt?.code, 'missing-references');
    assert.deepEqual(receipt.missing, [glibc.info.path]);
    assert.deepEqual(await listKeys(cache.private, 'pending/'), []);
    assert.deepEqual(await listKeys(cache.private, 'waiting/'), []);
  });

  it('rejects it after a crash at any write of the rejection', async () => {
    for (let nth = 1; ; nth += 1) {
      const cache = createTestCache();
      const id = await cache.stage([hello]);
      await cache.publish(id);
      cache.advance(7 * dayMs);
      const crash = crashAtWrite(nth, 'after');
      await cache.sweep(cache.publisher({ hooks: crash })).catch((error: unknown) => {
        assert.ok(error instanceof CrashError);
      });
      await cache.sweep();
      const receipt = await cache.receipt(id.upload, hello.info);
      assert.equal(receipt?.code, 'missing-references', `after write ${nth}`);
      assert.deepEqual(await listKeys(cache.private, 'pending/'), []);
      assert.deepEqual(await listKeys(cache.private, 'waiting/'), []);
      if (!crash.hasCrashed()) break;
    }
  });

  it('resumes a path whose references are present, however late', async () => {
    const cache = createTestCache();
    const id = await cache.stage([hello]);
    await cache.publish(id);
    await cache.publisher().publishBatch(await cache.stage([glibc]));
    cache.advance(30 * dayMs);
    const fresh = await cache.stage([await testPath('other')]);
    await cache.sweep();
    assert.equal((await cache.receipt(id.upload, hello.info))?.status, 'published');
    assert.notEqual(await cache.staging.head(manifestKey(fresh)), null);
  });

  it('finishes all other work before it throws a failure', async () => {
    const cache = createTestCache();
    const bad = await cache.stage([hello]);
    const good = await cache.stage([glibc]);
    await cache.staging.put(`staging/${cache.newUpload()}/0.nars`, Buffer.from('leftover'));
    cache.advance(8 * dayMs);
    const publisher = cache.publisher();
    const failing: typeof publisher = {
      ...publisher,
      publishBatch: (id) =>
        id.upload === bad.upload
          ? Promise.reject(new Error('this batch fails'))
          : publisher.publishBatch(id),
    };
    await assert.rejects(cache.sweep(failing), /this batch fails/);
    assert.equal((await cache.receipt(good.upload, glibc.info))?.status, 'published');
    assert.deepEqual((await listKeys(cache.staging, 'staging/')).length, 2);
  });
});
