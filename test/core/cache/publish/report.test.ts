import assert from 'node:assert/strict';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, it } from 'node:test';
import { receiptKey, receiptPrefix } from '../../../../core/cache/layout.ts';
import { createReporter } from '../../../../core/cache/publish/report.ts';
import { storeHash } from '../../../../core/nix/store-path.ts';
import { listKeys } from '../../../support/assert/bytes.ts';
import { faultyBucket } from '../../../support/buckets/faulty-bucket.ts';
import { temporaryFileBucket } from '../../../support/buckets/file-bucket.ts';
import { memoryBucket } from '../../../support/buckets/memory-bucket.ts';
import { createTestCache } from '../../../support/cache/kit.ts';
import { testPath } from '../../../support/cache/paths.ts';

const upload = '019b76da-a800-7101-8101-010101010101';
const { info } = await testPath('one');
const published = { info, outcome: { status: 'published' } } as const;
const now = (): Date => new Date();

/** What an uploader can put in the place of receipts, by a writer of it. */
const squatters: Readonly<Record<string, (directory: string) => Promise<unknown>>> = {
  'a file': (directory) => writeFile(path.join(directory, receiptPrefix(upload).slice(0, -1)), 'x'),
  'a link': (directory) =>
    symlink('/tmp', path.join(directory, receiptPrefix(upload).slice(0, -1))),
  'a folder': (directory) =>
    mkdir(path.join(directory, receiptKey(upload, storeHash(info.path), 'published')), {
      recursive: true,
    }),
};

describe('a receipt whose place is taken', () => {
  for (const [name, squat] of Object.entries(squatters)) {
    it(`is given up with a warning: ${name} in a directory`, async () => {
      const { bucket, directory, close } = await temporaryFileBucket();
      try {
        await mkdir(path.join(directory, 'receipts'));
        await squat(directory);
        const before = await listKeys(bucket);
        const reporter = createReporter(bucket, now);
        const results = [
          ...(await reporter.reportPaths({ upload, batch: 0 }, [published])),
          await reporter.reportPath(upload, published),
        ];
        for (const { outcome } of results) {
          assert.equal(outcome.status, 'published');
          assert.match(outcome.warnings?.[0] ?? '', /^its receipt was given up: .*"receipts/);
        }
        assert.deepEqual(await listKeys(bucket), before);
      } finally {
        await close();
      }
    });
  }

  it('does not keep its batch from ending', async () => {
    const cache = createTestCache();
    const path = await testPath('one');
    const id = await cache.stage([path]);
    const staging = faultyBucket(cache.staging, (operation, key) =>
      operation === 'put' && key.startsWith(receiptPrefix(id.upload)) ? 'denied' : undefined,
    );
    const [result] = await cache.publish(id, cache.publisher({ staging }));
    assert.equal(result?.outcome.status, 'published');
    assert.match(result.outcome.warnings?.[0] ?? '', /its receipt was given up/);
    assert.deepEqual(await listKeys(cache.staging), []);
  });
});

describe('receipts that cannot be written', () => {
  for (const fault of ['denied', 'unavailable', 'full'] as const) {
    it(`are not given up while the root is ${fault}`, async () => {
      const bucket = faultyBucket(memoryBucket(), (operation) =>
        operation === 'put' ? fault : undefined,
      );
      const reporter = createReporter(bucket, now);
      const reporting = reporter.reportPaths({ upload, batch: 0 }, [published]);
      await assert.rejects(reporting, { code: `storage-${fault}` });
    });
  }

  it('are not given up if the storage was down in between', async () => {
    const store = memoryBucket();
    const bucket = faultyBucket(store, (operation, key) =>
      operation === 'put' && key.startsWith(receiptPrefix(upload)) ? 'unavailable' : undefined,
    );
    const reporting = createReporter(bucket, now).reportPath(upload, published);
    await assert.rejects(reporting, { code: 'storage-unavailable' });
    assert.deepEqual(await listKeys(store), []);
  });

  it('are written at the second time, after rights that were just granted', async () => {
    const store = memoryBucket();
    let refusals = 1;
    const bucket = faultyBucket(store, (operation) =>
      operation === 'put' && refusals-- > 0 ? 'denied' : undefined,
    );
    const { outcome } = await createReporter(bucket, now).reportPath(upload, published);
    assert.equal(outcome.warnings, undefined);
    assert.equal((await listKeys(store)).length, 1);
  });
});
