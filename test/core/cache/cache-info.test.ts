import assert from 'node:assert/strict';
import { test } from 'node:test';

import { writeCacheInfo } from '../../../core/cache/cache-info.ts';
import { parseCacheInfo } from '../../../core/nix/cache-info.ts';
import type { CacheInfo } from '../../../core/nix/cache-info.ts';
import type { Bucket } from '../../../core/storage/bucket.ts';
import { readObject } from '../../support/assert/bytes.ts';
import { memoryBucket } from '../../support/buckets/memory-bucket.ts';

const config = { storeDir: '/nix/store' };

async function infoIn(bucket: Bucket): Promise<CacheInfo> {
  return parseCacheInfo(String(await readObject(bucket, 'nix-cache-info')));
}

test('nix-cache-info is created, replaced, and left as it is', async () => {
  const bucket = memoryBucket();
  const write = (priority: number) => writeCacheInfo(bucket, config, priority);
  assert.deepEqual(await write(41), { change: 'created', before: null });
  assert.deepEqual(await write(30), { change: 'replaced', before: 41 });
  assert.deepEqual(await write(30), { change: 'unchanged', before: 30 });
  assert.deepEqual(await infoIn(bucket), { ...config, wantMassQuery: true, priority: 30 });
});

test('that of nix copy is completed, but not that of another store', async () => {
  const bucket = memoryBucket();
  await bucket.put('nix-cache-info', Buffer.from('StoreDir: /nix/store\n'));
  const written = await writeCacheInfo(bucket, config, 41);
  assert.deepEqual(written, { change: 'replaced', before: null });
  assert.deepEqual(await infoIn(bucket), { ...config, wantMassQuery: true, priority: 41 });
  await assert.rejects(writeCacheInfo(bucket, { storeDir: '/gnu/store' }, 41), { code: 'usage' });
  assert.equal((await infoIn(bucket)).storeDir, '/nix/store');
});

test('a change by someone else meanwhile is not overwritten', async () => {
  const bucket = memoryBucket();
  await writeCacheInfo(bucket, config, 41);
  const racing: Bucket = { ...bucket, replace: () => Promise.resolve('changed') };
  await assert.rejects(writeCacheInfo(racing, config, 30), { code: 'changed-meanwhile' });
});
