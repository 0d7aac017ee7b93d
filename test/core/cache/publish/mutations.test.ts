import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Publisher } from '../../../../core/cache/publish/publisher.ts';
import type { Upstreams } from '../../../../core/cache/upstreams.ts';
import { storeHash } from '../../../../core/nix/store-path.ts';
import type { Bucket } from '../../../../core/storage/bucket.ts';
import { listKeys } from '../../../support/assert/bytes.ts';
import { checkInvariants } from '../../../support/cache/invariants.ts';
import { createTestCache, testSigner } from '../../../support/cache/kit.ts';
import type { TestCache } from '../../../support/cache/kit.ts';
import { fileNar, narHashOf, testPath } from '../../../support/cache/paths.ts';
import { crashAtWrite } from '../../../support/buckets/crash.ts';
import { chainHooks } from '../../../support/cache/scenario.ts';
import { memoryBucket } from '../../../support/buckets/memory-bucket.ts';
import { watchInvariants } from '../../../support/cache/watch.ts';

/**
 * Each test breaks one step that an invariant depends on, and expects the checks of the other tests to
 * fail. Without these tests, a checker that never fails would go unnoticed.
 */

const a = await testPath('a');
const b = await testPath('b', { references: [a] });
const evil = await testPath('a', { contents: 'evil' });
const none = { config: { compression: { kind: 'none', level: 3 } } };

const check = (cache: TestCache): Promise<unknown> =>
  checkInvariants({ ...cache, publicKeys: cache.config.publicKeys });

const broken = (invariant: string) => ({
  name: 'InvariantError',
  message: new RegExp(`^${invariant}:`),
});

/** Wraps `bucket` and replaces its `put` for some keys. */
function withPut(bucket: Bucket, isMeant: (key: string) => boolean, put: Bucket['put']): Bucket {
  return {
    ...bucket,
    put: (key, body, options) =>
      isMeant(key) ? put(key, body, options) : bucket.put(key, body, options),
  };
}

const isNarInfo = (key: string): boolean => key.endsWith('.narinfo');
const isNar = (key: string): boolean => key.startsWith('nar/');
const isAudit = (key: string): boolean => key.startsWith('audit/');

/** Publishes the same path twice at once: the second decides before the first has written. */
async function raceOf(cache: TestCache, second: (hooks: object) => Publisher): Promise<void> {
  const one = await cache.stage([a]);
  const other = await cache.stage([evil]);
  let isFirst = true;
  const rival = cache.publisher();
  const late = second({
    before: async (operation: string, key: string) => {
      if (operation !== 'put' || !isNarInfo(key) || !isFirst) return;
      isFirst = false;
      await rival.publishBatch(one);
    },
  });
  await late.publishBatch(other);
}

describe('I1 fails', () => {
  it('when the stored NAR differs from the checked one', async () => {
    const cache = createTestCache(none);
    const nar = await fileNar('something else');
    const lossy = withPut(cache.public, isNar, (key, _, options) =>
      cache.public.put(key, nar, options),
    );
    await cache.publish(await cache.stage([a]), cache.publisher({ public: lossy }));
    await assert.rejects(check(cache), broken('I1'));
  });

  it('when the narinfo is written before its NAR', async () => {
    const cache = createTestCache(none);
    const forgetful = withPut(cache.public, isNar, () => Promise.resolve('created'));
    await cache.publish(await cache.stage([a]), cache.publisher({ public: forgetful }));
    await assert.rejects(check(cache), broken('I1'));
  });

  it('when a signature is made with a key that readers do not know', async () => {
    const cache = createTestCache();
    await cache.publish(await cache.stage([a]));
    const publicKeys = [testSigner('test-1', 5).publicKey];
    await assert.rejects(checkInvariants({ ...cache, publicKeys }), broken('I1'));
    const others = [testSigner('other-1', 5).publicKey];
    await assert.rejects(checkInvariants({ ...cache, publicKeys: others }), broken('I1'));
  });
});

describe('I2 fails', () => {
  it('when every reference counts as present', async () => {
    const optimist: Upstreams = {
      findNarInfo: (hash) =>
        Promise.resolve(
          hash === storeHash(a.info.path)
            ? { kind: 'found', info: narInfoOfA }
            : { kind: 'absent' },
        ),
      findRealisation: () => Promise.resolve(null),
      verifiedSignatures: () => [],
    };
    const narInfoOfA = {
      ...{ ...a.info, url: 'x', compression: 'none', fileHash: null, fileSize: null },
      extra: [],
    };
    const cache = createTestCache(none);
    const watch = watchInvariants(cache);
    const publisher = cache.publisher({ upstreams: optimist, hooks: watch });
    await cache.publish(await cache.stage([b]), publisher);
    await assert.rejects(check(cache), broken('I2'));
    assert.throws(() => {
      watch.assertKept();
    }, broken('I2'));
  });
});

describe('I2 fails', () => {
  it('when narinfos are created together past one that exists', async () => {
    const rivalOfA = { ...a, info: { ...a.info, path: `${a.info.path}-2` } };
    for (const stops of [true, false]) {
      const cache = createTestCache({ ...none, createsInOrder: true });
      const id = await cache.stage([a, b]);
      const rival = await cache.stage([rivalOfA]);
      const publisher = cache.publisher({
        public: {
          ...cache.public,
          // Another path with the hash of `a` is published at the worst moment.
          async createInOrder(objects) {
            await cache.publisher().publishBatch(rival);
            if (stops) return (await cache.public.createInOrder?.(objects)) ?? [];
            const puts = objects.map(({ key, body }) =>
              cache.public.put(key, body, { ifAbsent: true }),
            );
            return Promise.all(puts);
          },
        },
      });
      await cache.publish(id, publisher);
      const status = (await cache.receipt(id.upload, b.info))?.status;
      assert.equal(status, stops ? 'waiting' : 'exists');
      if (stops) await check(cache);
      else await assert.rejects(check(cache), broken('I2'));
    }
  });
});

describe('I3 fails', () => {
  it('when the storage ignores conditional writes', async () => {
    for (const honours of [true, false]) {
      const cache = createTestCache(none);
      const watch = watchInvariants(cache);
      await raceOf(cache, (hooks) => {
        const publisher = cache.publisher({ hooks: chainHooks(hooks, watch) });
        if (honours) return publisher;
        const careless = withPut(cache.public, isNarInfo, async (key, body) => {
          await (hooks as { before: (operation: string, key: string) => Promise<void> }).before(
            'put',
            key,
          );
          void watch.after('put', key);
          const outcome = await cache.public.put(key, body);
          void watch.after('put', key);
          return outcome;
        });
        return cache.publisher({ public: careless });
      });
      if (honours) watch.assertKept();
      else
        assert.throws(() => {
          watch.assertKept();
        }, broken('I3'));
    }
  });
});

describe('I4 fails', () => {
  it('when nothing is checked again after the marker is written', async () => {
    for (const asksAgain of [true, false]) {
      const cache = createTestCache(none);
      const dependent = await cache.stage([b]);
      const reference = await cache.stage([a]);
      const rival = cache.publisher();
      let isParked = false;
      const publisher = cache.publisher({
        hooks: {
          // The reference is published at the worst moment: the marker is not there yet.
          before: async (operation, key) => {
            if (operation === 'put' && key.startsWith('waiting/'))
              await rival.publishBatch(reference);
          },
          after: (operation, key) => {
            isParked ||= operation === 'put' && key.startsWith('waiting/');
          },
        },
        ...(asksAgain ? {} : { public: blindOnce(cache.public, () => isParked) }),
      });
      await cache.publish(dependent, publisher);
      const status = (await cache.receipt(dependent.upload, b.info))?.status;
      assert.equal(status, asksAgain ? 'published' : 'waiting');
    }
  });

  it('when the objects that lead to a receipt are deleted before it is written', async () => {
    for (const isLost of [
      /^receipts\//,
      /^receipts\/.*\/0\.[0-9a-f]{16}\./,
      /\.published\./,
      /^$/,
    ]) {
      const cache = createTestCache(none);
      const watch = watchInvariants(cache);
      const { url } = cache.staging;
      const seen = memoryBucket({ store: cache.stagingStore, url, now: cache.now, ...watch });
      const forgetful = withPut(
        seen,
        (key) => isLost.test(key),
        () => Promise.resolve('created'),
      );
      const publisher = cache.publisher({ staging: forgetful, hooks: watch });
      const waits = await testPath('waits', { references: [await testPath('late')] });
      await cache.publish(await cache.stage([a, waits]), publisher);
      await cache.publish(await cache.stage([await testPath('late')]), publisher);
      if (isLost.test('')) watch.assertKept();
      else
        assert.throws(() => {
          watch.assertKept();
        }, broken('I4'));
    }
  });

  it('when wake-ups are lost and no sweep runs', async () => {
    const cache = createTestCache(none);
    const dependent = await cache.stage([b]);
    await cache.publish(dependent);
    await cache.publisher().publishBatch(await cache.stage([a]));
    assert.equal(cache.wakes.splice(0).length, 1);
    assert.equal((await cache.receipt(dependent.upload, b.info))?.status, 'waiting');
    await cache.sweep();
    assert.equal((await cache.receipt(dependent.upload, b.info))?.status, 'published');
  });

  it('when the event of a crashed publisher is not repeated and no sweep runs', async () => {
    const cache = createTestCache(none);
    const id = await cache.stage([a]);
    const publisher = cache.publisher({ hooks: crashAtWrite(2, 'before') });
    await assert.rejects(publisher.publishBatch(id));
    assert.equal(await cache.receipt(id.upload, a.info), null);
    cache.advance(3_600_000);
    await cache.sweep();
    assert.match((await cache.receipt(id.upload, a.info))?.status ?? '', /published|exists/);
  });
});

describe('I5 fails', () => {
  it('when a rejected claim is visible', async () => {
    const cache = createTestCache(none);
    await cache.publish(await cache.stage([a]));
    const options = { ...cache, publicKeys: cache.config.publicKeys };
    await checkInvariants({ ...options, rejected: [evil.info] });
    await assert.rejects(checkInvariants({ ...options, rejected: [a.info] }), broken('I5'));
    assert.notEqual(narHashOf(evil.nar), a.info.narHash);
  });
});

describe('I6 fails', () => {
  it('when the audit record of a batch leaves out a path', async () => {
    const cache = createTestCache(none);
    const short = withPut(cache.private, isAudit, (key, body, options) => {
      const [first = ''] = Buffer.from(body).toString().split('\n');
      return cache.private.put(key, Buffer.from(`${first}\n`), options);
    });
    const id = await cache.stage([a, b]);
    await cache.publish(id, cache.publisher({ private: short }));
    assert.equal((await listKeys(cache.private, 'audit/')).length, 1);
    await assert.rejects(check(cache), broken('I6'));
  });

  it('when the audit record is written after the narinfo, and the publisher crashes in between', async () => {
    const cache = createTestCache(none);
    const watch = watchInvariants(cache);
    const late = withPut(cache.private, isAudit, () => Promise.resolve('created'));
    const publisher = cache.publisher({ private: late, hooks: watch });
    await cache.publish(await cache.stage([a]), publisher);
    await assert.rejects(check(cache), broken('I6'));
    assert.throws(() => {
      watch.assertKept();
    }, broken('I6'));
  });
});

/** Wraps `bucket` and finds no narinfo while `isBlind`, so missing references stay missing. */
function blindOnce(bucket: Bucket, isBlind: () => boolean): Bucket {
  return {
    ...bucket,
    get: (key, options) =>
      isBlind() && isNarInfo(key) ? Promise.resolve(null) : bucket.get(key, options),
  };
}
