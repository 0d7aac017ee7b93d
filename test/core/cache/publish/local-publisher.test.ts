import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { manifestKey, parseManifestKey, pendingPrefix } from '../../../../core/cache/layout.ts';
import { createLocalPublisher } from '../../../../core/cache/publish/local-publisher.ts';
import type { LocalPublisher } from '../../../../core/cache/publish/local-publisher.ts';
import type { PublishResult } from '../../../../core/cache/publish/report.ts';
import { newUploadId } from '../../../../core/cache/upload-id.ts';
import { NicheError } from '../../../../core/errors.ts';
import { listKeys } from '../../../support/assert/bytes.ts';
import { checkInvariants } from '../../../support/cache/invariants.ts';
import { createTestCache } from '../../../support/cache/kit.ts';
import type { TestCache } from '../../../support/cache/kit.ts';
import { testPath } from '../../../support/cache/paths.ts';
import type { TestPath } from '../../../support/cache/paths.ts';
import { memoryBucket } from '../../../support/buckets/memory-bucket.ts';
import type { BucketHooks } from '../../../support/buckets/memory-bucket.ts';

const base = await testPath('base');
const user = await testPath('user', { references: [base] });

/** Opens a publisher, and records its results and its writes in order. */
function open(
  cache: TestCache,
  hooks: BucketHooks = {},
): { publisher: LocalPublisher; published: PublishResult[]; writes: string[] } {
  const published: PublishResult[] = [];
  const writes: string[] = [];
  const recorded: BucketHooks = {
    before: async (operation, key) => {
      if (operation === 'put') writes.push(key);
      await hooks.before?.(operation, key);
    },
  };
  const publisher = createLocalPublisher({
    ...cache,
    public: memoryBucket({ store: cache.publicStore, ...recorded }),
    staging: memoryBucket({ store: cache.stagingStore, ...recorded }),
    private: memoryBucket({ store: cache.privateStore, ...recorded }),
    version: 'test',
    onPublished: (one) => published.push(one),
  });
  return { publisher, published, writes };
}

/** Returns the statuses of a path, in order. */
function statusesOf(published: readonly PublishResult[], { info }: TestPath): string[] {
  return published.filter(({ path }) => path === info.path).map(({ outcome }) => outcome.status);
}

describe('a local publisher', () => {
  it('publishes submitted batches, and resumes waiting paths', async () => {
    const cache = createTestCache();
    const { publisher, published } = open(cache);
    const ids = [await cache.stage([user]), await cache.stage([base])];
    for (const id of [...ids, ...ids]) publisher.submit(id);
    await publisher.idle();
    // The second run of a batch may find its path published.
    for (const path of [base, user]) assert.ok(statusesOf(published, path).includes('published'));
    await checkInvariants({ ...cache, publicKeys: cache.config.publicKeys });
    await publisher.idle();
  });

  it('finds staged batches, and sweeps', async () => {
    const cache = createTestCache();
    const { publisher, published } = open(cache);
    await cache.stage([base]);
    await cache.staging.put('staging/strange', Buffer.from('x'));
    assert.equal(await publisher.submitStaged(), 1);
    await publisher.idle();
    assert.deepEqual(statusesOf(published, base), ['published']);
    await cache.stage([user]);
    await publisher.sweep(0);
    assert.deepEqual(statusesOf(published, user), ['published']);
  });

  it('finishes all other work before it reports a failure, and keeps the failed batch', async () => {
    const cache = createTestCache();
    const unavailable = new NicheError('storage-unavailable', 'down');
    const { publisher, published } = open(cache, {
      before(operation, key) {
        if (operation === 'get' && key.includes('0101') && key.endsWith('.nars')) throw unavailable;
      },
    });
    publisher.submit(await cache.stage([base]));
    publisher.submit(await cache.stage([await testPath('other')]));
    await assert.rejects(publisher.idle(), { code: 'storage-unavailable' });
    assert.deepEqual(statusesOf(published, base), []);
    assert.equal((await listKeys(cache.staging, 'staging/')).length, 2);
    await publisher.idle();
  });
});

describe('batches that one process publishes together', () => {
  it('wait for references in each other instead of being parked', async () => {
    const cache = createTestCache();
    const [first, second] = [await cache.stage([base]), await cache.stage([user])];
    let isFirstNar = true;
    const { publisher, published, writes } = open(cache, {
      async before(operation, key) {
        if (operation !== 'put' || !key.startsWith('nar/') || !isFirstNar) return;
        isFirstNar = false;
        // By now, the other batch has reached its references.
        await sleep(50);
      },
    });
    publisher.submit(first);
    publisher.submit(second);
    await publisher.idle();
    const statuses = new Map(published.map(({ path, outcome }) => [path, outcome.status]));
    assert.deepEqual(
      statuses,
      new Map([
        [base.info.path, 'published'],
        [user.info.path, 'published'],
      ]),
    );
    assert.deepEqual(
      writes.filter((key) => key.startsWith(pendingPrefix)),
      [],
    );
  });

  it('do not deadlock, and do not wait for a failed batch', async () => {
    const cache = createTestCache();
    const other = await testPath('other');
    const late = await testPath('late', { references: [other] });
    // Each batch contains a reference of the other.
    const ids = [await cache.stage([user, other]), await cache.stage([late, base])];
    const { publisher } = open(cache);
    for (const id of ids) publisher.submit(id);
    await publisher.idle();
    for (const [id, path] of [
      [ids[0]!, user],
      [ids[1]!, late],
    ] as const) {
      assert.equal((await cache.receipt(id.upload, path.info))?.status, 'published');
    }

    const broken = createTestCache();
    const failing = open(broken, {
      before(operation, key) {
        if (operation === 'put' && key.startsWith('nar/')) throw new Error('the storage is gone');
      },
    });
    failing.publisher.submit(await broken.stage([base]));
    failing.publisher.submit(await broken.stage([user]));
    await assert.rejects(failing.publisher.idle(), /the storage is gone/);
  });

  it('start in the order of their upload', async () => {
    const cache = createTestCache();
    const upload = newUploadId();
    const paths = await Promise.all([0, 1, 2, 3, 4].map((index) => testPath(`path-${index}`)));
    for (const [batch, path] of paths.entries()) {
      await cache.stage([path], { id: { upload, batch } });
    }
    const begun: number[] = [];
    const { publisher, published } = open(cache, {
      before(operation, key) {
        const id = parseManifestKey(key);
        if (operation === 'get' && id) begun.push(id.batch);
      },
    });
    for (const batch of [4, 3, 0, 2, 1]) publisher.submit({ upload, batch });
    await publisher.idle();
    // The first two begin at once.
    assert.deepEqual(begun, [4, 3, 0, 1, 2]);
    assert.equal(published.length, paths.length);
  });
});

describe('the sweep of a local publisher', () => {
  it('skips batches that are queued or in progress', async () => {
    const cache = createTestCache();
    const ids = [
      await cache.stage([base]),
      await cache.stage([await testPath('other')]),
      await cache.stage([user]),
    ];
    const reads: string[] = [];
    const isHeld = Promise.withResolvers<undefined>();
    const goOn = Promise.withResolvers<undefined>();
    const { publisher } = open(cache, {
      async before(operation, key) {
        if (operation === 'get' && key.startsWith('staging/')) reads.push(key);
        if (operation !== 'put' || !key.startsWith('nar/')) return;
        isHeld.resolve(undefined);
        await goOn.promise;
      },
    });
    for (const id of ids) publisher.submit(id);
    await isHeld.promise;
    // As if the NARs took longer than the age limit of staged batches.
    const sweeping = publisher.sweep(0);
    await sleep(20);
    goOn.resolve(undefined);
    await sweeping;
    await publisher.idle();
    const manifests = ids.map(manifestKey);
    assert.deepEqual(reads.filter((key) => manifests.includes(key)).sort(), manifests.sort());
    const receipt = await cache.receipt(ids[2]?.upload ?? '', user.info);
    assert.equal(receipt?.status, 'published');
  });

  it('ignores a batch that the sweep is publishing', async () => {
    const cache = createTestCache();
    const id = await cache.stage([base]);
    let reads = 0;
    const { publisher } = open(cache, {
      before(operation, key) {
        if (operation === 'get' && key === manifestKey(id)) reads += 1;
        // While the sweep publishes it.
        if (operation === 'put' && key.startsWith('nar/')) publisher.submit(id);
      },
    });
    await publisher.sweep(0);
    await publisher.idle();
    assert.equal(reads, 1);
    assert.equal((await cache.receipt(id.upload, base.info))?.status, 'published');
  });
});
