import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { blockedKey, listingKey, narInfoKey } from '../../../../core/cache/layout.ts';
import { purgeContents, unblockContents } from '../../../../core/cache/withdraw/purge.ts';
import type { PurgeProgress, PurgeResult } from '../../../../core/cache/withdraw/purge.ts';
import { unblockPath } from '../../../../core/cache/withdraw/block.ts';
import { withdrawRefused } from '../../../../core/cache/withdraw/withdraw.ts';
import { storeHash } from '../../../../core/nix/store-path.ts';
import { listKeys } from '../../../support/assert/bytes.ts';
import { CrashError, crashAtWrite } from '../../../support/buckets/crash.ts';
import { memoryBucket } from '../../../support/buckets/memory-bucket.ts';
import { checkInvariants } from '../../../support/cache/invariants.ts';
import { createTestCache } from '../../../support/cache/kit.ts';
import type { TestCache } from '../../../support/cache/kit.ts';
import { inventedPath, testPath } from '../../../support/cache/paths.ts';

const deriver = inventedPath('secret.drv');
const shared = inventedPath('shared.drv');
const contents = 'a password';
const secret = await testPath('secret', { contents, deriver });
const twin = await testPath('twin', { contents, deriver: shared });
const other = await testPath('other', { deriver: shared });
const { narHash } = secret.info;
const waitMs = 1000;
const logName = (path: string): string => path.split('/').at(-1)!;

/** Publishes the secret under two names, and another path with the log of one of them. */
async function createLeak(): Promise<TestCache> {
  const cache = createTestCache();
  const logs = { [logName(deriver)]: 'a password', [logName(shared)]: 'shared' };
  await cache.publish(await cache.stage([secret, twin, other], { logs }));
  return cache;
}

async function purge(
  cache: TestCache,
  options: { readonly sleep?: () => Promise<void>; readonly buckets?: object } = {},
): Promise<{ result: PurgeResult; progress: PurgeProgress[] }> {
  const progress: PurgeProgress[] = [];
  const result = await purgeContents({
    ...cache,
    ...options.buckets,
    narHash,
    why: 'a test',
    waitMs,
    async sleep(ms) {
      await options.sleep?.();
      cache.advance(ms);
    },
    onProgress: (one) => progress.push(one),
  });
  return { result, progress };
}

async function assertPurged(cache: TestCache): Promise<void> {
  const left = await listKeys(cache.public);
  const hash = storeHash(other.info.path);
  const kept = [narInfoKey(hash), listingKey(hash), `log/${logName(shared)}`];
  assert.deepEqual(
    left.filter((key) => !key.startsWith('nar/')),
    kept.sort(),
  );
  assert.equal(left.filter((key) => key.startsWith('nar/')).length, 1);
  await checkInvariants({ ...cache, publicKeys: cache.config.publicKeys });
}

describe('a purge', () => {
  it('deletes the contents under every name, waits once, and refuses them', async () => {
    const cache = await createLeak();
    const { result, progress } = await purge(cache);
    assert.deepEqual(result.paths, [secret.info.path, twin.info.path].sort());
    assert.ok(progress.some(({ phase }) => phase === 'waiting'));
    await assertPurged(cache);
    const again = await purge(cache);
    assert.deepEqual(again.result.paths, result.paths);
    // A CDN may still have the NAR that the first run deleted.
    assert.deepEqual([...again.result.keys].sort(), [...result.keys].sort());
    assert.ok(again.result.keys.some((key) => key.startsWith('nar/')));
    assert.ok(!again.progress.some(({ phase }) => phase === 'waiting'));
    const renamed = await testPath('renamed', { contents });
    const [published] = await cache.publish(await cache.stage([renamed]));
    assert.equal(published?.outcome.code, 'blocked');
    assert.match(published.outcome.message ?? '', /an administrator refused its contents, sha256:/);
    await assertPurged(cache);
  });

  it('finds what slow publishers create meanwhile', async () => {
    const cache = await createLeak();
    const late = await testPath('late', { contents });
    let isOver = false;
    // This publisher looks before the purge begins, and creates its narinfo during the wait.
    const isReady = Promise.withResolvers<undefined>();
    const goOn = Promise.withResolvers<undefined>();
    const publisher = cache.publisher({
      hooks: {
        async before(operation, key) {
          if (operation !== 'put' || key !== narInfoKey(storeHash(late.info.path))) return;
          isReady.resolve(undefined);
          await goOn.promise;
        },
      },
    });
    const publishing = publisher.publishBatch(await cache.stage([late]));
    await isReady.promise;
    const { result } = await purge(cache, {
      async sleep() {
        if (isOver) return;
        isOver = true;
        goOn.resolve(undefined);
        const [published] = await publishing;
        assert.equal(published?.outcome.code, 'blocked');
      },
    });
    assert.ok(result.paths.includes(late.info.path));
    for (const hash of cache.withdrawals.splice(0)) await withdrawRefused(cache, hash);
    await assertPurged(cache);
  });

  it('withdraws paths that wait, and leaves their rejection to the sweep', async () => {
    const cache = createTestCache();
    const reference = await testPath('reference');
    const waiting = await testPath('waiting', { references: [reference] });
    const id = await cache.stage([waiting]);
    await cache.publish(id);
    const result = await purgeContents({
      ...cache,
      ...{ narHash: waiting.info.narHash, why: '', waitMs: 0, sleep: () => Promise.resolve() },
    });
    assert.deepEqual([result.paths, result.pending], [[waiting.info.path], 1]);
    const pending = await listKeys(cache.private, 'pending/');
    assert.deepEqual(
      pending.map((key) => key.split('.').at(-1)),
      ['json'],
    );
    await cache.publish(await cache.stage([reference]));
    await cache.sweep();
    assert.equal((await cache.receipt(id.upload, waiting.info))?.code, 'blocked');
    assert.deepEqual(await listKeys(cache.private, 'pending/'), []);
  });

  it('deletes the NAR of a path that waits, which is not published after an undo', async () => {
    const cache = createTestCache();
    const publisher = cache.publisher();
    const reference = await testPath('reference');
    const waiting = await testPath('waiting', { references: [reference] });
    const { path, narHash: purged } = waiting.info;
    const id = await cache.stage([waiting]);
    await cache.publish(id, publisher);
    await purgeContents({
      ...cache,
      ...{ narHash: purged, why: '', waitMs: 0, sleep: () => Promise.resolve() },
    });
    await unblockContents(cache, purged);
    await unblockPath(cache.private, storeHash(path));
    // The same publisher, which remembers that it stored the NAR.
    await cache.publish(await cache.stage([reference]), publisher);
    assert.equal((await cache.receipt(id.upload, waiting.info))?.code, 'failed');
    await checkInvariants({ ...cache, publicKeys: cache.config.publicKeys });
  });

  it('waits although it was begun by a machine whose clock is behind', async () => {
    const cache = await createLeak();
    const stopped = purgeContents({
      ...{ ...cache, narHash, why: '', waitMs },
      now: () => new Date(cache.now().getTime() - 10 * waitMs),
      sleep: () => Promise.reject(new CrashError('stopped')),
    });
    await assert.rejects(stopped, CrashError);
    const { progress } = await purge(cache);
    assert.ok(progress.some(({ phase }) => phase === 'waiting'));
    await assertPurged(cache);
  });

  it('continues after a crash at any write', async () => {
    for (let nth = 1; ; nth += 1) {
      const cache = await createLeak();
      const crash = crashAtWrite(nth, 'before');
      const view = {
        public: memoryBucket({ store: cache.publicStore, now: cache.now, ...crash }),
        private: memoryBucket({ store: cache.privateStore, now: cache.now, ...crash }),
      };
      const hasCrashed = await purge(cache, { buckets: view }).then(
        () => false,
        (error: unknown) => {
          if (error instanceof CrashError) return true;
          throw error;
        },
      );
      const { result } = await purge(cache);
      assert.equal(result.paths.length, 2);
      await assertPurged(cache);
      if (!hasCrashed) break;
    }
  });

  it('can be undone', async () => {
    const cache = await createLeak();
    await purge(cache);
    const publish = async (): Promise<string | undefined> => {
      const [one] = await cache.publish(await cache.stage([secret]));
      return one?.outcome.code ?? one?.outcome.status;
    };
    assert.equal(await unblockPath(cache.private, storeHash(secret.info.path)), true);
    assert.equal(await publish(), 'blocked');
    assert.equal(await unblockContents(cache, narHash), true);
    assert.equal(await unblockContents(cache, narHash), false);
    assert.equal(await publish(), 'published');
    assert.notEqual(await cache.private.head(blockedKey(storeHash(twin.info.path))), null);
    await cache.sweep();
    await checkInvariants({ ...cache, publicKeys: cache.config.publicKeys });
  });
});
