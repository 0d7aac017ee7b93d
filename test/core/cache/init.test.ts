import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { readConfig } from '../../../core/cache/config.ts';
import { initCache } from '../../../core/cache/init.ts';
import { parseCacheInfo } from '../../../core/nix/cache-info.ts';
import { listKeys, readObject } from '../../support/assert/bytes.ts';
import { memoryBucket } from '../../support/buckets/memory-bucket.ts';
import { createTestCache } from '../../support/cache/kit.ts';

const { config } = createTestCache();

describe('initCache', () => {
  it('writes the objects that Nix reads, and the configuration last', async () => {
    const bucket = memoryBucket();
    await assert.rejects(readConfig(bucket), { code: 'not-a-cache' });
    await initCache(bucket, config);
    assert.deepEqual(await listKeys(bucket), ['niche.json', 'nix-cache-info']);
    assert.deepEqual(await readConfig(bucket), config);
    const info = parseCacheInfo(String(await readObject(bucket, 'nix-cache-info')));
    assert.deepEqual([info.storeDir, info.wantMassQuery, info.priority], ['/nix/store', true, 41]);
  });

  it('never changes an existing cache, even one created at the same time', async () => {
    const other = { ...config, name: 'other' };
    const bucket = memoryBucket();
    await initCache(bucket, config);
    await assert.rejects(initCache(bucket, other), { code: 'cache-exists' });
    const url = 's3://acme?endpoint=http://localhost:9000&region=x';
    await assert.rejects(initCache({ ...bucket, url }, other), {
      hint: `show it with: niche show -u '${url}'`,
    });
    const both = memoryBucket();
    const made = await Promise.allSettled([initCache(both, config), initCache(both, other)]);
    assert.deepEqual(made.map(({ status }) => status).sort(), ['fulfilled', 'rejected']);
    assert.deepEqual(await readConfig(bucket), config);
  });
});
