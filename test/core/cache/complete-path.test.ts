import assert from 'node:assert/strict';
import { test } from 'node:test';

import { isCompletePath } from '../../../core/cache/complete-path.ts';
import { narInfoKey } from '../../../core/cache/layout.ts';
import { readNarInfo } from '../../../core/cache/read-narinfo.ts';
import { formatPublicKey, generateSecretKey, parsePublicKey } from '../../../core/nix/keys.ts';
import { memoryBucket } from '../../support/buckets/memory-bucket.ts';
import { localTestPath, makeBucketCache, testPublicKey } from '../../support/cache/bucket-cache.ts';

const keys = [parsePublicKey(testPublicKey)];

async function publishedApp() {
  const bucket = memoryBucket();
  const cache = await makeBucketCache(bucket);
  const lib = await localTestPath('lib');
  const app = await localTestPath('app', [lib]);
  await cache.publish(lib, app);
  const isComplete = () => isCompletePath(cache, app.path, keys);
  return { bucket, cache, lib, app, isComplete };
}

test('a published path is complete', async () => {
  const { isComplete } = await publishedApp();
  assert.equal(await isComplete(), true);
});

test('a path of another key is not complete', async () => {
  const { cache, app } = await publishedApp();
  const other = formatPublicKey(generateSecretKey('test-1', Buffer.alloc(32, 8)).publicKey);
  assert.equal(await isCompletePath(cache, app.path, [parsePublicKey(other)]), false);
});

for (const [lost, keyOf] of [
  ['its narinfo', ({ app }: Published) => narInfoKey(app.hash)],
  ['its NAR', async ({ cache, app }: Published) => narKeyOf(cache, app.hash)],
  ['the narinfo of a reference', ({ lib }: Published) => narInfoKey(lib.hash)],
] as const) {
  test(`a path that lost ${lost} is not complete`, async () => {
    const published = await publishedApp();
    await published.bucket.delete([await keyOf(published)]);
    assert.equal(await published.isComplete(), false);
  });
}

test('a reference may be in an upstream', async () => {
  const lib = await localTestPath('lib');
  const app = await localTestPath('app', [lib]);
  const upstream = memoryBucket({ url: 'memory:///upstream' });
  await (await makeBucketCache(upstream)).publish(lib);
  const open = { reader: upstream, publicKey: testPublicKey, url: 'https://up.example' };
  const cache = await makeBucketCache(memoryBucket(), { upstreams: [open] });
  await cache.publish(app);
  assert.equal(await isCompletePath(cache, app.path, keys), true);
});

type Published = Awaited<ReturnType<typeof publishedApp>>;

async function narKeyOf({ public: root, config }: Published['cache'], hash: string) {
  return (await readNarInfo(root, hash, config.storeDir))?.url ?? '';
}
