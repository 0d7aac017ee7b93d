import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { stagedLogKey } from '../../../../core/cache/layout.ts';
import { maxListedObjects, openStagedLogs } from '../../../../core/cache/publish/staged-logs.ts';
import { baseNameOf } from '../../../../core/nix/store-path.ts';
import { memoryBucket } from '../../../support/buckets/memory-bucket.ts';
import { inventedPath, testPath } from '../../../support/cache/paths.ts';

const upload = '019b76da-a800-7101-8101-010101010101';
const storeDir = '/nix/store';
const deriver = inventedPath('app.drv');
const { info } = await testPath('app', { deriver });

describe('the staged logs of an upload', () => {
  it('are found with one listing, which is bounded', async () => {
    const bucket = memoryBucket();
    await bucket.put(stagedLogKey(upload, baseNameOf(deriver, storeDir)), Buffer.from('built'));
    const log = await openStagedLogs(bucket, upload, storeDir).readLog(info);
    assert.equal(String(log), 'built');

    // All of them are listed before the log.
    for (let each = 0; each < maxListedObjects; each += 1) {
      await bucket.put(stagedLogKey(upload, `${'0'.repeat(32)}-${each}.drv`), Buffer.of());
    }
    assert.equal(await openStagedLogs(bucket, upload, storeDir).readLog(info), null);
  });
});
