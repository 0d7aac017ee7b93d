import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pendingKey, receiptKey } from '../../../../core/cache/layout.ts';
import { createPendingPaths } from '../../../../core/cache/publish/pending.ts';
import { writeReceipts } from '../../../../core/cache/receipts/batch-receipts.ts';
import { writeReceipt } from '../../../../core/cache/receipts/receipts.ts';
import type { Receipt } from '../../../../core/cache/receipts/receipts.ts';
import {
  readCacheStatus,
  readUploadStatus,
  staleStagedMs,
} from '../../../../core/cache/status/status.ts';
import { newUploadId } from '../../../../core/cache/upload-id.ts';
import { isNicheError } from '../../../../core/errors.ts';
import { parsePublicKey } from '../../../../core/nix/keys.ts';
import { faultyBucket } from '../../../support/buckets/faulty-bucket.ts';
import { memoryBucket } from '../../../support/buckets/memory-bucket.ts';
import {
  makeBucketCache,
  localTestPath,
  testPublicKey,
} from '../../../support/cache/bucket-cache.ts';
import type { BucketCache } from '../../../support/cache/bucket-cache.ts';

const minuteMs = 60_000;
const hourMs = 60 * minuteMs;
const began = Date.parse('2026-03-01T12:00:00.000Z');

/** A cache whose clock is `clock.now`, in milliseconds. */
async function clockedCache(): Promise<{ cache: BucketCache; clock: { now: number } }> {
  const clock = { now: began };
  const now = (): Date => new Date(clock.now);
  return { cache: await makeBucketCache(memoryBucket({ now }), { now }), clock };
}

const at = (ms: number): string => new Date(ms).toISOString();
const keys = [parsePublicKey(testPublicKey)];

test('an upload with published, existing, rejected and waiting paths', async () => {
  const { cache, clock } = await clockedCache();
  const [lib, gone, lone] = await Promise.all(
    ['lib', 'gone', 'lone'].map((name) => localTestPath(name)),
  );
  assert.ok(lib && gone && lone);
  const waiter = await localTestPath('waiter', [gone]);
  const liar = { ...lone, info: { ...lone.info, references: [lib.path] } };
  await cache.publish(lib);
  clock.now += minuteMs;
  const app = await localTestPath('app', [lib]);
  const upload = await cache.publish(lib, app, waiter, liar);
  const found = await readUploadStatus(cache, upload, keys);
  assert.ok(found);
  assert.deepEqual([found.upload, found.startedAt, found.staged], [upload, at(clock.now), []]);
  const bySubject = new Map(found.receipts.map((receipt) => [receipt.subject, receipt]));
  assert.equal(bySubject.size, 4);
  const time = { at: at(clock.now) };
  assert.deepEqual(bySubject.get(lib.hash), {
    subject: lib.hash,
    path: lib.path,
    status: 'exists',
    ...time,
  });
  assert.deepEqual(bySubject.get(app.hash), {
    subject: app.hash,
    path: app.path,
    status: 'published',
    ...time,
  });
  assert.deepEqual(bySubject.get(waiter.hash), {
    subject: waiter.hash,
    path: waiter.path,
    status: 'waiting',
    missing: [gone.path],
    ...time,
  });
  assert.deepEqual(
    [bySubject.get(lone.hash)?.status, bySubject.get(lone.hash)?.code],
    ['rejected', 'unproven-reference'],
  );
});

test('an upload that is not handled yet, or unknown', async () => {
  const { cache, clock } = await clockedCache();
  const [one, two] = [await localTestPath('one'), await localTestPath('two')];
  const upload = await cache.stage(one, two);
  assert.deepEqual(await readUploadStatus(cache, upload, keys), {
    upload,
    startedAt: at(clock.now),
    receipts: [],
    staged: [{ upload, batch: 0, stagedAt: at(clock.now), paths: [one.path, two.path] }],
  });
  await cache.staging.put(`staging/${upload}/10.json`, Buffer.from('{'));
  const found = await readUploadStatus(cache, upload, keys);
  assert.deepEqual(
    found?.staged?.map(({ batch, paths }) => [batch, paths?.length ?? null]),
    [
      [0, 2],
      [10, null],
    ],
  );
  assert.equal(await readUploadStatus(cache, newUploadId(), keys), null);
});

test('a batch that was refused as a whole', async () => {
  const { cache, clock } = await clockedCache();
  const upload = newUploadId(new Date(clock.now));
  await cache.staging.put(`staging/${upload}/0.json`, Buffer.from('{'));
  await cache.publish();
  const found = await readUploadStatus(cache, upload, keys);
  assert.deepEqual(
    found?.receipts.map(({ subject, path, code }) => [subject, path, code]),
    [['0', undefined, 'malformed-manifest']],
  );
  const { rejected } = await readCacheStatus(cache, new Date(clock.now));
  assert.deepEqual(
    rejected.latest.map(({ path, code }) => [path, code]),
    [[null, 'malformed-manifest']],
  );
});

test('a new cache', async () => {
  const { cache, clock } = await clockedCache();
  assert.deepEqual(await readCacheStatus(cache, new Date(clock.now)), {
    lastPublished: null,
    staged: { batches: 0, stale: [] },
    waiting: { paths: 0, references: 0, missing: [] },
    rejected: { count: 0, latest: [] },
  });
});

test('the time of the last publication', async () => {
  const { cache, clock } = await clockedCache();
  await cache.publish(await localTestPath('one'));
  clock.now += hourMs;
  await cache.publish(await localTestPath('two'));
  clock.now += hourMs;
  // An `exists` result is not a publication.
  await cache.publish(await localTestPath('one'));
  const { lastPublished } = await readCacheStatus(cache, new Date(clock.now));
  assert.equal(lastPublished, at(began + hourMs));
});

test('a staged batch is stale after 15 minutes', async () => {
  const { cache, clock } = await clockedCache();
  const first = await cache.stage(await localTestPath('one'));
  clock.now += minuteMs;
  const second = await cache.stage(await localTestPath('two'));
  const atAge = async (ms: number): Promise<unknown> =>
    (await readCacheStatus(cache, new Date(began + ms))).staged;
  assert.deepEqual(await atAge(staleStagedMs), { batches: 2, stale: [] });
  const oldest = { upload: first, batch: 0, stagedAt: at(began) };
  assert.deepEqual(await atAge(staleStagedMs + 1), { batches: 2, stale: [oldest] });
  assert.deepEqual(await atAge(hourMs), {
    batches: 2,
    stale: [oldest, { upload: second, batch: 0, stagedAt: at(clock.now) }],
  });
});

test('missing references, with the most dependents first', async () => {
  const { cache, clock } = await clockedCache();
  const [wanted, rare] = [await localTestPath('wanted'), await localTestPath('rare')];
  const first = await localTestPath('first', [wanted]);
  await cache.publish(first);
  clock.now += minuteMs;
  const second = await localTestPath('second', [wanted]);
  const third = await localTestPath('third', [rare]);
  await cache.publish(second, third);
  await cache.publish(second);
  const { waiting } = await readCacheStatus(cache, new Date(clock.now));
  assert.deepEqual([waiting.paths, waiting.references], [3, 2]);
  const [most, least] = waiting.missing;
  assert.deepEqual([most?.hash, most?.path, most?.waiters], [wanted.hash, wanted.path, 2]);
  assert.ok([first.path, second.path].includes(most?.first?.path ?? ''));
  assert.deepEqual(least, {
    hash: rare.hash,
    path: rare.path,
    waiters: 1,
    first: { path: third.path, since: at(clock.now) },
  });
});

test('a marker whose record is gone is counted without names', async () => {
  const { cache } = await clockedCache();
  const [reference, waiter] = [await localTestPath('reference'), await localTestPath('waiter')];
  const upload = newUploadId();
  await createPendingPaths(cache.private).markWaiting({
    reference: reference.hash,
    storeHash: waiter.hash,
    upload,
  });
  const { waiting } = await readCacheStatus(cache);
  assert.deepEqual(waiting, {
    paths: 1,
    references: 1,
    missing: [{ hash: reference.hash, path: null, waiters: 1, first: null }],
  });
});

test('paths that were rejected in the last day and not published since', async () => {
  const { cache, clock } = await clockedCache();
  const upload = newUploadId(new Date(clock.now));
  const reject = async (name: string): Promise<string> => {
    const { path, hash } = await localTestPath(name);
    const receipt: Receipt = {
      path,
      status: 'rejected',
      code: 'malformed-nar',
      message: `${name} is no NAR`,
      at: at(clock.now),
    };
    await writeReceipt(cache.staging, upload, hash, receipt);
    return path;
  };
  await reject('old');
  clock.now += 24 * hourMs;
  await reject('retried');
  const retried = await localTestPath('retried');
  await writeReceipt(cache.staging, upload, retried.hash, {
    path: retried.path,
    status: 'published',
    at: at(clock.now),
  });
  await reject('one');
  clock.now += minuteMs;
  const two = await reject('two');
  const { rejected } = await readCacheStatus(cache, new Date(clock.now));
  assert.equal(rejected.count, 2);
  assert.deepEqual(rejected.latest[0], {
    upload,
    path: two,
    code: 'malformed-nar',
    message: 'two is no NAR',
    at: at(clock.now),
  });
});

test('rejections and later publications in batch receipts', async () => {
  const { cache, clock } = await clockedCache();
  const [lib, lone] = [await localTestPath('lib'), await localTestPath('lone')];
  const liar = { ...lone, info: { ...lone.info, references: [lib.path] } };
  const upload = await cache.publish(lib, liar);
  const survey = async (): Promise<unknown[]> => {
    const { lastPublished, rejected } = await readCacheStatus(cache, new Date(clock.now));
    return [lastPublished, rejected.count, rejected.latest.map(({ path, code }) => [path, code])];
  };
  const told = [at(began), 1, [[lone.path, 'unproven-reference']]];
  assert.deepEqual(await survey(), told);
  clock.now += 24 * hourMs;
  assert.deepEqual(await survey(), told);
  clock.now += 1;
  assert.deepEqual(await survey(), [at(began), 0, []]);
  clock.now = began;
  for (const paths of [[lone], [lib, lone]]) {
    const outcomes = paths.map(({ path }) => ({ path, status: 'exists' }) as const);
    await writeReceipts(cache.staging, { upload, batch: 0 }, outcomes, at(clock.now));
    assert.deepEqual(await survey(), [at(began), 0, []]);
  }
});

test('only the receipts of uploads with recent rejections are read', async () => {
  const { cache, clock } = await clockedCache();
  const [lib, lone] = [await localTestPath('lib'), await localTestPath('lone')];
  const liar = { ...lone, info: { ...lone.info, references: [lib.path] } };
  await cache.publish(await localTestPath('one'), await localTestPath('two'));
  await cache.publish(lib, liar);
  const read: string[] = [];
  const bucket = faultyBucket(cache.staging, (operation, key) => {
    if (operation === 'get') read.push(key);
    return undefined;
  });
  await readCacheStatus({ ...cache, staging: bucket }, new Date(clock.now));
  assert.equal(read.length, 1);
  assert.match(read[0] ?? '', /\.rejected-published\.json$/);
});

test('a damaged receipt keeps its status, and hides no other', async () => {
  const { cache } = await clockedCache();
  const upload = newUploadId(new Date(began));
  const [broken, whole] = [await localTestPath('broken'), await localTestPath('whole')];
  await cache.staging.put(receiptKey(upload, broken.hash, 'rejected'), Buffer.from('{"version":1'));
  await cache.publish(whole);
  const receipt: Receipt = { path: whole.path, status: 'published', at: at(began) };
  await writeReceipt(cache.staging, upload, whole.hash, receipt);
  const found = await readUploadStatus(cache, upload, keys);
  const bySubject = new Map(found?.receipts.map((each) => [each.subject, each]));
  assert.deepEqual(bySubject.get(whole.hash), { subject: whole.hash, ...receipt });
  assert.equal(bySubject.get(broken.hash)?.status, 'rejected');
  assert.match(bySubject.get(broken.hash)?.message ?? '', /is not JSON/);
  const { rejected } = await readCacheStatus(cache, new Date(began));
  assert.deepEqual([rejected.count, rejected.latest[0]?.code], [1, 'failed']);
});

test('a receipt that reports a path as published needs a signed narinfo', async () => {
  const { cache } = await clockedCache();
  const [there, forged] = [await localTestPath('there'), await localTestPath('forged')];
  const upload = await cache.publish(there);
  const receipt: Receipt = { path: forged.path, status: 'exists', at: at(began) };
  await writeReceipt(cache.staging, upload, forged.hash, receipt);
  const unconfirmed = async (publicKeys: typeof keys): Promise<string[]> => {
    const found = await readUploadStatus(cache, upload, publicKeys);
    return (found?.receipts ?? []).filter((each) => each.unconfirmed).map((each) => each.subject);
  };
  assert.deepEqual(await unconfirmed(keys), [forged.hash]);
  assert.deepEqual((await unconfirmed([])).sort(), [forged.hash, there.hash].sort());

  const down = { ...cache, public: faultyBucket(cache.public, () => 'unavailable') };
  await assert.rejects(readUploadStatus(down, upload, keys), { code: 'storage-unavailable' });
});

test('at most a hundred paths are listed', async () => {
  const { cache } = await clockedCache();
  const upload = newUploadId();
  const pending = createPendingPaths(cache.private);
  for (let index = 0; index < 120; index += 1) {
    const { path, hash } = await localTestPath(`path-${index}`);
    await writeReceipt(cache.staging, upload, hash, {
      path,
      status: 'rejected',
      code: 'failed',
      message: 'no',
      at: at(began),
    });
    await pending.markWaiting({ reference: hash, storeHash: hash, upload });
  }
  const { rejected, waiting } = await readCacheStatus(cache, new Date(began));
  assert.deepEqual([rejected.count, rejected.latest.length], [120, 100]);
  assert.deepEqual([waiting.references, waiting.missing.length], [120, 100]);
});

test('a damaged pending record is counted without its path', async () => {
  const { cache } = await clockedCache();
  const upload = newUploadId();
  const { hash } = await localTestPath('waiter');
  await createPendingPaths(cache.private).markWaiting({ reference: hash, storeHash: hash, upload });
  await cache.private.put(pendingKey(hash, upload), Buffer.from('{}'));
  const { waiting } = await readCacheStatus(cache, new Date(began));
  assert.deepEqual(waiting.missing, [{ hash, path: null, waiters: 1, first: null }]);
});

test('failing storage is not an idle cache', async () => {
  const { cache } = await clockedCache();
  for (const prefix of ['staging/', 'receipts/', 'waiting/']) {
    const bucket = faultyBucket(cache.private, (_, key) => (key === prefix ? 'denied' : undefined));
    const roots = { staging: bucket, private: bucket };
    await assert.rejects(readCacheStatus(roots), (error) => isNicheError(error, 'storage-denied'));
  }
});
