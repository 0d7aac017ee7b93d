import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  blockedKey,
  blockedNarKey,
  blockedPrefix,
  listingKey,
  narHashPrefix,
  narInfoKey,
  parseBlockedKey,
  purgedNarKey,
  unblockedKey,
  withdrawingKey,
} from '../../../../core/cache/layout.ts';
import { createLocalPublisher } from '../../../../core/cache/publish/local-publisher.ts';
import { blockPath, unblockPath } from '../../../../core/cache/withdraw/block.ts';
import { sweepBlocked } from '../../../../core/cache/withdraw/sweep-blocked.ts';
import { withdrawPath, withdrawRefused } from '../../../../core/cache/withdraw/withdraw.ts';
import { storeHash } from '../../../../core/nix/store-path.ts';
import { listKeys } from '../../../support/assert/bytes.ts';
import { memoryBucket } from '../../../support/buckets/memory-bucket.ts';
import type { BucketHooks } from '../../../support/buckets/memory-bucket.ts';
import { createTestCache, dayMs } from '../../../support/cache/kit.ts';
import type { TestCache } from '../../../support/cache/kit.ts';
import { testPath } from '../../../support/cache/paths.ts';

const base = await testPath('base');
const user = await testPath('user', { references: [base] });
const hash = storeHash(base.info.path);
const record = { at: '2026-01-01T00:00:00.000Z', why: 'a test' };

/** Returns whether the narinfo or the listing of the path is there. */
function isVisible(cache: TestCache, storeHash = hash): boolean {
  return [narInfoKey(storeHash), listingKey(storeHash)].some((key) =>
    cache.publicStore.objects.has(key),
  );
}

/** Calls `work` once, right before the narinfo of `base` is created. */
function beforeCreation(work: () => Promise<unknown>): BucketHooks {
  let isOver = false;
  return {
    async before(operation, key) {
      if (isOver || operation !== 'put' || key !== narInfoKey(hash)) return;
      isOver = true;
      await work();
    },
  };
}

/** A cache whose publisher crashed right after it had created the narinfo of a blocked path. */
async function createLeftover(): Promise<TestCache> {
  const cache = createTestCache();
  await cache.publish(await cache.stage([base]));
  await cache.private.put(blockedKey(hash), Buffer.from(JSON.stringify(record)));
  return cache;
}

describe('a path that is blocked while it is published', () => {
  for (const createsInOrder of [false, true]) {
    it(`is rejected and withdrawn (createInOrder: ${createsInOrder})`, async () => {
      const cache = createTestCache({ createsInOrder });
      const hooks = beforeCreation(() => blockPath(cache, hash, record));
      const id = await cache.stage([base]);
      const [result] = await cache.publish(id, cache.publisher({ hooks }));
      assert.equal(result?.outcome.code, 'blocked');
      assert.equal((await cache.receipt(id.upload, base.info))?.code, 'blocked');
      assert.deepEqual(cache.withdrawals, [hash]);
      assert.ok(isVisible(cache));
      assert.equal(await withdrawRefused(cache, hash), true);
      assert.ok(!isVisible(cache));
    });
  }

  it('is withdrawn by a publisher in this process', async () => {
    const cache = createTestCache();
    const hooks = beforeCreation(() => blockPath(cache, hash, record));
    const publisher = createLocalPublisher({
      ...cache,
      public: memoryBucket({ store: cache.publicStore, ...hooks }),
      version: 'test',
    });
    publisher.submit(await cache.stage([base]));
    await publisher.idle();
    assert.ok(!isVisible(cache));
  });

  it('is not reported as published when it is unblocked at once', async () => {
    const cache = createTestCache();
    let isOver = false;
    const hooks: BucketHooks = {
      async after(operation, key) {
        if (isOver || operation !== 'put' || key !== narInfoKey(hash)) return;
        isOver = true;
        await blockPath(cache, hash, record);
        await unblockPath(cache.private, hash);
      },
    };
    const id = await cache.stage([base]);
    const [result] = await cache.publish(id, cache.publisher({ hooks }));
    assert.equal(result?.outcome.code, 'blocked');
    await cache.publish(await cache.stage([base]));
    assert.ok(isVisible(cache));
  });

  it('is withdrawn when its batch is published again after a crash', async () => {
    const cache = await createLeftover();
    const [result] = await cache.publish(await cache.stage([base]));
    assert.equal(result?.outcome.code, 'blocked');
    assert.deepEqual(cache.withdrawals, [hash]);
  });
});

describe('a path that is blocked and unblocked', () => {
  it('is missing for a publisher that found it before', async () => {
    const cache = createTestCache();
    const publisher = cache.publisher();
    await cache.publish(await cache.stage([base]), publisher);
    await blockPath(cache, hash, record);
    assert.equal(await unblockPath(cache.private, hash), true);
    assert.equal(await unblockPath(cache.private, hash), false);
    const [result] = await cache.publish(await cache.stage([user]), publisher);
    assert.equal(result?.outcome.status, 'waiting');
    const published = await cache.publish(await cache.stage([base]), publisher);
    assert.deepEqual(
      published.map(({ outcome }) => outcome.status),
      ['published', 'published'],
    );
  });

  it('keeps its marker for a day', async () => {
    const cache = createTestCache();
    await blockPath(cache, hash, record);
    await unblockPath(cache.private, hash);
    cache.advance(dayMs - 1);
    await cache.sweep();
    assert.equal((await listKeys(cache.private, blockedPrefix)).length, 1);
    cache.advance(1);
    await cache.sweep();
    assert.deepEqual(await listKeys(cache.private, blockedPrefix), []);
  });

  it('is not deleted by a withdrawal that was slow, once it can be published again', async () => {
    const cache = await createLeftover();
    const isChecked = Promise.withResolvers<undefined>();
    const goOn = Promise.withResolvers<undefined>();
    const slow = memoryBucket({
      store: cache.privateStore,
      async after(operation, key) {
        if (operation !== 'head' || key !== blockedKey(hash)) return;
        isChecked.resolve(undefined);
        await goOn.promise;
      },
    });
    const withdrawal = withdrawPath({ public: cache.public, private: slow }, hash);
    await isChecked.promise;
    await unblockPath(cache.private, hash);
    const [early] = await cache.publish(await cache.stage([base]));
    assert.equal(early?.outcome.code, 'blocked');
    goOn.resolve(undefined);
    await withdrawal;
    const [late] = await cache.publish(await cache.stage([base]));
    assert.equal(late?.outcome.status, 'published');
    assert.ok(isVisible(cache));
  });
});

describe('blocked contents', () => {
  it('are refused under any name, also while they are published', async () => {
    const cache = createTestCache();
    const twin = await testPath('twin', { contents: 'the contents of base' });
    assert.equal(twin.info.narHash, base.info.narHash);
    const block = () =>
      cache.private.put(blockedNarKey(base.info.narHash), Buffer.from(JSON.stringify(record)));
    const publisher = cache.publisher({ hooks: beforeCreation(block) });
    for (const path of [base, twin]) {
      const [result] = await cache.publish(await cache.stage([path]), publisher);
      assert.equal(result?.outcome.code, 'blocked');
    }
    assert.deepEqual(cache.withdrawals, [hash]);
    assert.equal(await withdrawRefused(cache, hash), true);
    assert.ok(!isVisible(cache));
    const [result] = await cache.publish(await cache.stage([user]));
    assert.equal(result?.outcome.status, 'waiting');
  });
});

describe('a request to withdraw a path', () => {
  it('does nothing to a path that is not blocked', async () => {
    const cache = createTestCache();
    await cache.publish(await cache.stage([base]));
    assert.equal(await withdrawRefused(cache, hash), false);
    assert.ok(isVisible(cache));
    assert.deepEqual(await listKeys(cache.private, blockedPrefix), []);
  });
});

describe('a sweep', () => {
  it('withdraws blocked paths that are visible', async () => {
    const cache = await createLeftover();
    assert.deepEqual((await cache.sweep()).withdrawn, [hash]);
    assert.ok(!isVisible(cache));
    await cache.public.put(listingKey(hash), Buffer.from('{}'));
    assert.deepEqual((await cache.sweep()).withdrawn, [hash]);
    assert.ok(!isVisible(cache));
    assert.deepEqual((await cache.sweep()).withdrawn, []);
  });

  it('checks a bounded number of old records, by turns', async () => {
    const cache = createTestCache();
    const letters = '0123456789abcdfghijklmnpqrsvwxyz';
    const hashes = Array.from({ length: 250 }, (_, index) =>
      `${letters[index % 32]}${letters[index >> 5]}`.padEnd(32, '0'),
    );
    for (const one of hashes) {
      await cache.private.put(blockedKey(one), Buffer.from(JSON.stringify(record)));
      await cache.public.put(narInfoKey(one), Buffer.from('x'));
    }
    cache.advance(2 * dayMs);
    for (const left of [150, 50, 0]) {
      await sweepBlocked(cache, cache.now().getTime());
      assert.equal(hashes.filter((one) => isVisible(cache, one)).length, left);
      cache.advance(10 * 60_000);
    }
  });

  it('deletes NARs of purged contents, and the markers of processes that crashed', async () => {
    const cache = createTestCache();
    await cache.publish(await cache.stage([base]));
    const { narHash } = base.info;
    await cache.private.put(purgedNarKey(narHash), Buffer.from(JSON.stringify(record)));
    await cache.private.put(withdrawingKey(hash, '0011223344556677'), Buffer.alloc(0));
    cache.advance(60 * 60_000);
    await cache.sweep();
    assert.deepEqual(await listKeys(cache.public, narHashPrefix(narHash)), []);
    assert.deepEqual(await listKeys(cache.private, blockedPrefix), [purgedNarKey(narHash)]);
  });
});

describe('the key of a marker', () => {
  it('parses to what it marks', () => {
    const { narHash } = base.info;
    const id = '0011223344556677';
    assert.deepEqual(parseBlockedKey(blockedKey(hash)), { kind: 'path', hash });
    assert.deepEqual(parseBlockedKey(unblockedKey(hash, id)), { kind: 'undone', hash });
    assert.deepEqual(parseBlockedKey(withdrawingKey(hash, id)), { kind: 'deleting', hash });
    assert.deepEqual(parseBlockedKey(blockedNarKey(narHash)), { kind: 'nar', hash: narHash });
    assert.deepEqual(parseBlockedKey(purgedNarKey(narHash)), { kind: 'purged', hash: narHash });
    for (const other of ['blocked/', `blocked/x-${hash}`, `blocked/nar-${hash}`, hash]) {
      assert.equal(parseBlockedKey(other), null);
    }
  });
});
