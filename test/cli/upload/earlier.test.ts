import assert from 'node:assert/strict';
import { test } from 'node:test';

import { createEarlierUploads } from '../../../cli/upload/earlier.ts';
import { openLocalDatabase } from '../../../core/cache/local/database.ts';
import { createUploadJournal } from '../../../core/cache/local/upload-journal.ts';
import { writeReceipt } from '../../../core/cache/receipts/receipts.ts';
import type { ReceiptStatus } from '../../../core/cache/receipts/receipts.ts';
import { newUploadId } from '../../../core/cache/upload-id.ts';
import { memoryBucket } from '../../support/buckets/memory-bucket.ts';
import { localTestPath, makeBucketCache } from '../../support/cache/bucket-cache.ts';

const at = '2026-03-01T12:00:00.000Z';

for (const { status, isStaged, isAdopted } of [
  { status: 'published', isStaged: true, isAdopted: true },
  { status: 'exists', isStaged: true, isAdopted: true },
  { status: 'published', isStaged: false, isAdopted: false },
  { status: 'rejected', isStaged: true, isAdopted: false },
] satisfies { status: ReceiptStatus; isStaged: boolean; isAdopted: boolean }[]) {
  const batch = isStaged ? 'a staged batch' : 'a batch that is gone';
  test(`an earlier receipt "${status}" in ${batch}, while the cache lacks the path`, async () => {
    const cache = await makeBucketCache(memoryBucket());
    const path = await localTestPath('one');
    const upload = isStaged ? await cache.stage(path) : newUploadId();
    await writeReceipt(cache.staging, upload, path.hash, { path: path.path, status, at });
    const journal = createUploadJournal(await openLocalDatabase(null), {
      self: 'this process',
      hasEnded: () => false,
    });
    journal.recordStaged({ upload, batch: 0 }, [path.info], true);
    const { staged, unstaged } = await createEarlierUploads(cache.staging, journal).find([
      path.info,
    ]);
    assert.deepEqual([staged.length, unstaged.length], isAdopted ? [1, 0] : [0, 1]);
  });
}
