import assert from 'node:assert/strict';
import { test } from 'node:test';

import { createUploadPublisher } from '../../../cli/upload/upload-publisher.ts';
import type { UploadPublisher } from '../../../cli/upload/upload-publisher.ts';
import { createLocalPublisher } from '../../../core/cache/publish/local-publisher.ts';
import { secretKeySigner } from '../../../core/signing/secret-key.ts';
import { faultyBucket } from '../../support/buckets/faulty-bucket.ts';
import { memoryBucket } from '../../support/buckets/memory-bucket.ts';
import { localTestPath, makeBucketCache, testSecretKey } from '../../support/cache/bucket-cache.ts';

/** Opens the publisher of `own` next to a batch of another upload; reading the batch `broken` fails. */
async function openWith(broken: 'own' | 'other', sweepFails = false) {
  const bucket = memoryBucket();
  const cache = await makeBucketCache(bucket);
  const [ownPath, otherPath] = [await localTestPath('own'), await localTestPath('other')];
  const uploads = { own: await cache.stage(ownPath), other: await cache.stage(otherPath) };
  const staging = faultyBucket(bucket, (operation, key) => {
    if (operation === 'get' && key.includes(uploads[broken])) return 'unavailable';
    return sweepFails && operation === 'list' && key === 'receipts/' ? 'denied' : undefined;
  });
  const published: (string | null)[] = [];
  const warnings: string[] = [];
  const publisher: UploadPublisher = createUploadPublisher({
    open: (onPublished, onEnded) =>
      createLocalPublisher({
        ...{ ...cache, staging, onPublished, onEnded },
        signers: [secretKeySigner(testSecretKey)],
        version: 'niche test',
      }),
    isOwn: ({ upload }) => upload === uploads.own,
    onPublished: ({ path }) => published.push(path),
    onWarning: (message) => warnings.push(message),
  });
  publisher.submit({ upload: uploads.own, batch: 0 });
  return { publisher, published, warnings, uploads, ownPath, otherPath };
}

test('a batch of another upload that fails is a warning', async () => {
  const { publisher, published, warnings, uploads, ownPath } = await openWith('other');
  await publisher.finish();
  await publisher.publishOthers();
  assert.deepEqual(published, [ownPath.path]);
  assert.match(warnings[0] ?? '', new RegExp(`batch 0 of upload ${uploads.other} failed`));
});

test('a batch of this upload that fails is a failure', async () => {
  const { publisher, warnings } = await openWith('own');
  await assert.rejects(publisher.finish(), { code: 'storage-unavailable' });
  assert.deepEqual(warnings, []);
});

test('a sweep that fails is a warning', async () => {
  const { publisher, published, warnings, ownPath } = await openWith('other', true);
  await publisher.finish();
  await publisher.publishOthers();
  assert.deepEqual(published, [ownPath.path]);
  assert.ok(warnings.some((warning) => warning.startsWith('sweeping the cache failed: ')));
});
