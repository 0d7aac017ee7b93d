import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { NicheError } from '../../../../core/errors.ts';
import { listingKey, pendingKey, rootOf, waitingKey } from '../../../../core/cache/layout.ts';
import { deleteLeftovers } from '../../../../core/cache/publish/leftovers.ts';
import { storeHash } from '../../../../core/nix/store-path.ts';
import { listKeys } from '../../../support/assert/bytes.ts';
import { createTestCache, dayMs } from '../../../support/cache/kit.ts';
import { testPath } from '../../../support/cache/paths.ts';

const glibc = await testPath('glibc');
const hello = await testPath('hello', { references: [glibc] });

describe('deleteLeftovers', () => {
  it('deletes leftovers after a week, receipts after 30 days, and audit records never', async () => {
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
    for (const key of leftovers) await cache[rootOf(key)].put(key, body);
    const id = await cache.stage([glibc]);
    await cache.publish(id);
    cache.advance(6 * dayMs);
    await cache.sweep();
    assert.equal((await listKeys(cache.staging, `staging/${upload}/`)).length, 2);
    cache.advance(dayMs);
    await cache.sweep();
    for (const key of leftovers) assert.equal(await cache[rootOf(key)].head(key), null, key);
    assert.equal((await listKeys(cache.staging, 'receipts/')).length, 1);
    cache.advance(23 * dayMs);
    const { deleted } = await cache.sweep();
    assert.equal(deleted, 1);
    assert.deepEqual(await listKeys(cache.staging, 'receipts/'), []);
    assert.equal((await listKeys(cache.private, 'audit/')).length, 1);
  });

  it('keeps old objects of an upload that has a manifest', async () => {
    const cache = createTestCache();
    const id = await cache.stage([glibc], { logs: { 'x.drv': 'log' } });
    cache.advance(8 * dayMs);
    const publisher = { ...cache.publisher(), publishBatch: () => Promise.resolve([]) };
    await cache.sweep(publisher);
    assert.equal((await listKeys(cache.staging, `staging/${id.upload}/`)).length, 3);
  });

  it('keeps the attachments of a waiting path', async () => {
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

  it('deletes the others when the storage refuses to delete one', async () => {
    const cache = createTestCache();
    const upload = cache.newUpload();
    const [held, free] = [`staging/${upload}/0.nars`, `staging/${upload}/1.nars`];
    const attempt = `attempts/${upload}/0/batch.0011223344556677`;
    for (const key of [held, free, attempt]) {
      await cache[rootOf(key)].put(key, Buffer.from('x'));
    }
    cache.advance(8 * dayMs);
    const staging = {
      ...cache.staging,
      delete: async (keys: readonly string[]) => {
        if (keys.includes(held)) throw new NicheError('storage-denied', 'under a hold');
        await cache.staging.delete(keys);
      },
    };
    const roots = { public: cache.public, staging, private: cache.private };
    await assert.rejects(deleteLeftovers(roots, cache.now().getTime()), { code: 'storage-denied' });
    assert.deepEqual(await listKeys(cache.staging), [held]);
    assert.deepEqual(await listKeys(cache.private), []);
  });

  it('ends unfinished multipart uploads after a day, and only those of the cache', async () => {
    const cache = createTestCache();
    const swept: [string, Date][] = [];
    const sweepUploads = (prefix: string, olderThan: Date): Promise<number> =>
      Promise.resolve(swept.push([prefix, olderThan]));
    const { public: publicRoot, staging, private: privateRoot } = cache;
    const roots = {
      public: { ...publicRoot, sweepUploads },
      staging: { ...staging, sweepUploads },
      private: privateRoot,
    };
    await deleteLeftovers(roots, cache.now().getTime());
    const dayAgo = new Date(cache.now().getTime() - dayMs);
    assert.deepEqual(swept, [
      ['staging/', dayAgo],
      ['nar/', dayAgo],
    ]);
  });
});
