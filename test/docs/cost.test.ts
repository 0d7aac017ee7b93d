import assert from 'node:assert/strict';
import { test } from 'node:test';

import { createKnownPaths } from '../../core/cache/local/known-paths.ts';
import { openLocalDatabase } from '../../core/cache/local/database.ts';
import { createLookups } from '../../core/cache/stage/lookups.ts';
import { createSelector } from '../../cli/upload/select.ts';
import { memoryBucket } from '../support/buckets/memory-bucket.ts';
import type { BucketOperation } from '../support/buckets/memory-bucket.ts';
import { localTestPath, makeBucketCache } from '../support/cache/bucket-cache.ts';

for (const count of [1, 100]) {
  test(`uploading ${count} small paths takes as many requests as docs/cost.md lists`, async () => {
    const requests = new Map<BucketOperation, number>();
    let time = Date.now();
    const now = (): Date => new Date(time);
    const bucket = memoryBucket({
      now,
      before: (operation, key) => {
        // A memory bucket reports each key, but both encodings of a batch are deleted in one request.
        if (operation === 'delete' && key.endsWith('.nars.zst')) return;
        requests.set(operation, (requests.get(operation) ?? 0) + 1);
      },
    });
    const cache = await makeBucketCache(bucket, { now });
    const reference = await localTestPath('reference');
    await cache.publish(reference);
    // Late enough that the publisher looks the reference up again.
    time += 11 * 60_000;
    const paths = await Promise.all(
      Array.from({ length: count }, (_, index) => localTestPath(`path-${index}`, [reference])),
    );
    requests.clear();

    const known = createKnownPaths(await openLocalDatabase(null));
    const selector = createSelector(createLookups({ ...cache, reader: cache.public }, known), null);
    const { wanted } = await selector.select(paths.map(({ info }) => info));
    assert.equal(wanted.length, count);
    await cache.publish(...paths);

    const [batches, references] = [1, 1];
    // From a hundred paths on, a page of a listing is cheaper than a request for each path.
    const [lookups, listings] = count < 100 ? [count, 0] : [0, 1];
    const of = (...operations: BucketOperation[]): number =>
      operations.reduce((sum, operation) => sum + (requests.get(operation) ?? 0), 0);
    assert.equal(of('get', 'head'), lookups + references + 2 * batches);
    assert.equal(of('put'), 3 * count + 5 * batches);
    // The test itself lists once, to find its staged batches.
    assert.equal(of('list'), listings + 6 * batches + 1);
    assert.equal(of('delete'), 4 * batches);
  });
}
