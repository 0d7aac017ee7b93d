import assert from 'node:assert/strict';
import { test } from 'node:test';

import { createConfirmer } from '../../../cli/upload/confirm.ts';
import { createReceiptPolling } from '../../../cli/upload/receipt-polling.ts';
import { createResults, exitStatusOf } from '../../../cli/upload/results.ts';
import type { Results } from '../../../cli/upload/results.ts';
import { narInfoKey } from '../../../core/cache/layout.ts';
import { readText } from '../../../core/cache/objects.ts';
import { writeReceipts } from '../../../core/cache/receipts/batch-receipts.ts';
import { writeReceipt } from '../../../core/cache/receipts/receipts.ts';
import type { Outcome, ReceiptStatus } from '../../../core/cache/receipts/receipts.ts';
import { newUploadId } from '../../../core/cache/upload-id.ts';
import { maxNarInfoBytes } from '../../../core/limits.ts';
import { formatPublicKey, generateSecretKey, parsePublicKey } from '../../../core/nix/keys.ts';
import { faultyBucket } from '../../support/buckets/faulty-bucket.ts';
import { memoryBucket } from '../../support/buckets/memory-bucket.ts';
import { localTestPath, makeBucketCache, testPublicKey } from '../../support/cache/bucket-cache.ts';
import type { BucketCache, LocalTestPath } from '../../support/cache/bucket-cache.ts';

const at = '2026-03-01T12:00:00.000Z';
const otherKey = formatPublicKey(generateSecretKey('test-1', Buffer.alloc(32, 8)).publicKey);

/** Forges receipts for paths that an upload staged, as another uploader can on several providers. */
function forgeReceipts(
  cache: BucketCache,
  upload: string,
  paths: readonly LocalTestPath[],
  status: ReceiptStatus = 'published',
): Promise<void> {
  const outcomes = paths.map(({ path }) => ({ path, status }));
  return writeReceipts(cache.staging, { upload, batch: 0 }, outcomes, at);
}

interface Waited {
  readonly results: Results;
  /** The outcomes that are kept for the next run. */
  readonly noted: ReadonlyMap<string, Outcome>;
  readonly requests: number;
}

/** Waits for the results of staged paths. */
async function waitFor(
  cache: BucketCache,
  upload: string,
  paths: readonly LocalTestPath[],
  options: {
    readonly waitMs?: number;
    readonly keys?: readonly string[];
    readonly onPolled?: () => void;
  } = {},
): Promise<Waited> {
  const { waitMs = 0, keys = [testPublicKey], onPolled = () => undefined } = options;
  const results = createResults();
  for (const { info } of paths) results.setStaged(info);
  const noted = new Map<string, Outcome>();
  const confirmer = createConfirmer(cache, keys.map(parsePublicKey));
  const polling = createReceiptPolling({
    bucket: cache.staging,
    waitMs,
    results,
    batches: new Map(paths.map(({ path }) => [path, { upload, batch: 0 }])),
    realisations: new Map(),
    confirmRealisation: () => assert.fail('no realisation was staged'),
    infos: new Map(paths.map(({ path, info }) => [path, info])),
    confirmer,
    onOutcome(path, outcome) {
      results.setOutcome(path, outcome);
      noted.set(path, outcome);
    },
    onPolled,
  });
  await polling.wait();
  return { results, noted, requests: confirmer.requests() };
}

for (const status of ['published', 'exists'] as const) {
  test(`forged receipts with the status ${status} publish nothing`, async () => {
    const cache = await makeBucketCache(memoryBucket());
    const paths = [await localTestPath('one'), await localTestPath('two')];
    const upload = await cache.stage(...paths);
    await forgeReceipts(cache, upload, paths, status);
    const { results, noted } = await waitFor(cache, upload, paths);
    assert.equal(noted.size, 0);
    assert.deepEqual(
      results.all().map((result) => [result.status, result.code]),
      paths.map(() => ['staged', 'unconfirmed']),
    );
    assert.equal(exitStatusOf(results.all(), false), 75);
  });
}

test('a forged receipt of a single path or of a whole batch publishes nothing', async () => {
  const cache = await makeBucketCache(memoryBucket());
  const path = await localTestPath('one');
  for (const subject of [path.hash, '0']) {
    const upload = newUploadId();
    await writeReceipt(cache.staging, upload, subject, {
      path: path.path,
      status: 'published',
      at,
    });
    const { results, noted } = await waitFor(cache, upload, [path]);
    assert.deepEqual([noted.size, results.pending()], [0, [path.path]]);
  }
});

test('a path with a forged receipt that is published later counts as published', async () => {
  const cache = await makeBucketCache(memoryBucket());
  const path = await localTestPath('one');
  const upload = await cache.stage(path);
  await forgeReceipts(cache, upload, [path]);
  let polls = 0;
  const { results } = await waitFor(cache, upload, [path], {
    waitMs: 60_000,
    onPolled() {
      polls += 1;
      if (polls === 2) void cache.publish();
    },
  });
  assert.equal(results.get(path.path)?.status, 'published');
});

test('honest receipts cost one request for each path', async () => {
  const cache = await makeBucketCache(memoryBucket());
  const paths = await Promise.all(['one', 'two', 'three'].map((name) => localTestPath(name)));
  const upload = await cache.publish(...paths);
  const { noted, requests } = await waitFor(cache, upload, paths);
  assert.deepEqual(
    paths.map(({ path }) => noted.get(path)?.status),
    paths.map(() => 'published'),
  );
  assert.equal(requests, 3);
});

test('forged receipts cause few requests however long the client waits', async () => {
  const cache = await makeBucketCache(memoryBucket());
  const { info } = await localTestPath('one');
  let time = 0;
  const confirmer = createConfirmer(cache, [parsePublicKey(testPublicKey)], () => time);
  for (; time < 60 * 60_000; time += 1000) {
    if (confirmer.isDue(info.path)) await confirmer.confirm(info);
  }
  assert.ok(confirmer.requests() < 140, `${confirmer.requests()} requests in an hour`);
});

test('a narinfo without a valid signature by a trusted key confirms nothing', async () => {
  const cache = await makeBucketCache(memoryBucket());
  const path = await localTestPath('one');
  const upload = await cache.publish(path);
  const pinned = await waitFor(cache, upload, [path], { keys: [otherKey] });
  assert.equal(pinned.results.get(path.path)?.code, 'unconfirmed');

  const key = narInfoKey(path.hash);
  const text = (await readText(cache.public, key, maxNarInfoBytes)) ?? '';
  for (const changed of [text.replace(/^Sig: .*\n/m, ''), 'StorePath: damaged']) {
    await cache.public.put(key, Buffer.from(changed));
    const { results, noted } = await waitFor(cache, upload, [path]);
    assert.deepEqual([noted.size, results.get(path.path)?.code], [0, 'unconfirmed']);
  }
});

test('a narinfo with other contents is a conflict', async () => {
  const cache = await makeBucketCache(memoryBucket());
  const path = await localTestPath('one');
  const upload = await cache.publish(path);
  const { narHash } = (await localTestPath('two')).info;
  const own = { ...path, info: { ...path.info, narHash } };
  const { results } = await waitFor(cache, upload, [own]);
  assert.deepEqual(
    [results.get(path.path)?.status, results.get(path.path)?.code],
    ['rejected', 'conflict'],
  );
});

for (const code of ['storage-denied', 'storage-unavailable'] as const) {
  test(`a public root that answers ${code} is a failure, not a missing narinfo`, async () => {
    const cache = await makeBucketCache(memoryBucket());
    const path = await localTestPath('one');
    const upload = await cache.publish(path);
    const fault = code === 'storage-denied' ? 'denied' : 'unavailable';
    const broken = { ...cache, public: faultyBucket(cache.public, () => fault) };
    await assert.rejects(waitFor(broken, upload, [path]), { code });
  });
}
