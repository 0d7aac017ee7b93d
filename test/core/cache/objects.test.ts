import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createObject, readObject, readText, writeObject } from '../../../core/cache/objects.ts';
import { memoryBucket, memoryStore } from '../../support/buckets/memory-bucket.ts';

describe('readObject and readText', () => {
  it('read a whole object, up to a limit', async () => {
    const bucket = memoryBucket({ chunkBytes: 3 });
    await writeObject(bucket, 'x', 'ten bytes!');
    assert.equal(await readText(bucket, 'x', 10), 'ten bytes!');
    await assert.rejects(readObject(bucket, 'x', 9), { code: 'oversized' });
    assert.equal(await readObject(bucket, 'missing'), null);
    assert.equal(await readText(bucket, 'missing'), null);
  });
});

describe('createObject', () => {
  it('creates an object once, with the content type and caching of its key', async () => {
    const store = memoryStore();
    const bucket = memoryBucket({ store });
    assert.equal(await createObject(bucket, 'niche.json', '{}'), 'created');
    assert.equal(await createObject(bucket, 'niche.json', 'other'), 'exists');
    assert.equal(await readText(bucket, 'niche.json'), '{}');
    assert.equal(store.objects.get('niche.json')?.contentType, 'application/json');
    assert.equal(store.objects.get('niche.json')?.cacheControl, 'no-cache');
  });
});
