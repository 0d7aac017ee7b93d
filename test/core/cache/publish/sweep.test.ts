import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { listingKey, manifestKey, pendingKey, waitingKey } from '../../../../core/cache/layout.ts';
import { sweep } from '../../../../core/cache/publish/sweep.ts';
import { storeHash } from '../../../../core/nix/store-path.ts';
import { listKeys } from '../../../support/assert/bytes.ts';
import { createTestCache, dayMs } from '../../../support/cache/kit.ts';
import { testPath } from '../../../support/cache/paths.ts';
import { CrashError, crashAtWrite } from '../../../support/buckets/crash.ts';

const hourMs = 3_600_000;
const glibc = await testPath('glibc');
const hello = await testPath('hello', { references: [glibc] });

describe('the sweep', () => {
  it('publishes what is staged and was forgotten, and leaves what is fresh', async () => {
    const cache = createTestCache();
    const forgotten = await cache.stage([glibc]);
    cache.advance(hourMs);
    const fresh = await cache.stage([hello]);
    const report = await cache.sweep();
    assert.deepEqual(
      report.published.map(({ path, outcome }) => [path, outcome.status]),
      [[glibc.info.path, 'published']],
    );
    assert.equal(await cache.private.head(manifestKey(forgotten)), null);
    assert.notEqual(await cache.private.head(manifestKey(fresh)), null);
  });

  it('resumes what waits for something that has come, with its marker or without', async () => {
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

  it('gives a path without a marker one, while it has to wait', async () => {
    const cache = createTestCache();
    await cache.publish(await cache.stage([hello]));
    const [marker] = await listKeys(cache.private, 'waiting/');
    await cache.private.delete([marker!]);
    await cache.sweep();
    assert.deepEqual(await listKeys(cache.private, 'waiting/'), [marker]);
  });

  it('rejects what has waited past its time, and says for what', async () => {
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

  it('rejects it also when it dies over it, at whichever write', async () => {
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

  it('resumes rather than rejects, however late', async () => {
    const cache = createTestCache();
    const id = await cache.stage([hello]);
    await cache.publish(id);
    await cache.publisher().publishBatch(await cache.stage([glibc]));
    cache.advance(30 * dayMs);
    const fresh = await cache.stage([await testPath('other')]);
    await cache.sweep();
    assert.equal((await cache.receipt(id.upload, hello.info))?.status, 'published');
    assert.notEqual(await cache.private.head(manifestKey(fresh)), null);
  });

  it('deletes leftovers after a week, receipts after thirty days, audit never', async () => {
    const cache = createTestCache();
    const body = Buffer.from('x');
    const upload = cache.newUpload();
    const leftovers = [
      `staging/${upload}/0.nars`,
      `staging/${upload}/1.nars.zst`,
      `attempts/${upload}/0/batch.0011223344556677`,
      pendingKey(storeHash(hello.info.path), upload).replace('.json', '.ls'),
      waitingKey({
        reference: storeHash(glibc.info.path),
        storeHash: storeHash(hello.info.path),
        upload,
      }),
    ];
    for (const key of leftovers) await cache.private.put(key, body);
    const id = await cache.stage([glibc]);
    await cache.publish(id);
    cache.advance(6 * dayMs);
    await cache.sweep();
    assert.equal((await listKeys(cache.private, `staging/${upload}/`)).length, 2);
    cache.advance(dayMs);
    await cache.sweep();
    for (const key of leftovers) assert.equal(await cache.private.head(key), null, key);
    assert.equal((await listKeys(cache.private, 'receipts/')).length, 1);
    cache.advance(23 * dayMs);
    const { deleted } = await cache.sweep();
    assert.equal(deleted, 1);
    assert.deepEqual(await listKeys(cache.private, 'receipts/'), []);
    assert.equal((await listKeys(cache.private, 'audit/')).length, 1);
  });

  it('leaves what lies beside a manifest that is still there', async () => {
    const cache = createTestCache();
    const id = await cache.stage([glibc], { logs: { 'x.drv': 'log' } });
    cache.advance(8 * dayMs);
    const publisher = { ...cache.publisher(), publishBatch: () => Promise.resolve([]) };
    await cache.sweep(publisher);
    assert.equal((await listKeys(cache.private, `staging/${id.upload}/`)).length, 3);
  });

  it('leaves what lies beside a path that waits, however long that may be', async () => {
    const cache = createTestCache({ config: { limits: { waitingDays: 30 } } });
    const id = await cache.stage([hello]);
    await cache.publish(id);
    const parked = await listKeys(cache.private, 'pending/');
    assert.equal(parked.length, 2);
    cache.advance(20 * dayMs);
    const { deleted } = await cache.sweep();
    assert.equal(deleted, 0);
    assert.deepEqual(await listKeys(cache.private, 'pending/'), parked);
    await cache.publish(await cache.stage([glibc]));
    assert.equal((await cache.receipt(id.upload, hello.info))?.status, 'published');
    assert.notEqual(await cache.public.head(listingKey(storeHash(hello.info.path))), null);
  });

  it('does everything else before it throws what failed', async () => {
    const cache = createTestCache();
    const bad = await cache.stage([hello]);
    const good = await cache.stage([glibc]);
    await cache.private.put(`staging/${cache.newUpload()}/0.nars`, Buffer.from('leftover'));
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
    assert.deepEqual((await listKeys(cache.private, 'staging/')).length, 2);
  });

  it('ends unfinished uploads of a day ago, of what a cache has and of nothing else', async () => {
    const cache = createTestCache();
    const swept: [string, Date][] = [];
    const bucket = {
      ...cache.private,
      sweepUploads: (prefix: string, olderThan: Date) =>
        Promise.resolve(swept.push([prefix, olderThan])),
    };
    const options = { publisher: cache.publisher(), waitingDays: 7, staleMs: 0, now: cache.now };
    await sweep({ ...options, private: bucket, public: bucket });
    const dayAgo = new Date(cache.now().getTime() - dayMs);
    assert.deepEqual(swept, [
      ['staging/', dayAgo],
      ['nar/', dayAgo],
    ]);
  });
});
