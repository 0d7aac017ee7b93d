import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  listStatuses,
  listStrongestReceipts,
  readListedOutcome,
  readListedReceipt,
} from '../../../../core/cache/receipts/listed-receipts.ts';
import {
  formatReceipts,
  isFinal,
  readReceipt,
  writeReceipt,
} from '../../../../core/cache/receipts/receipts.ts';
import type { Receipt, ReceiptStatus } from '../../../../core/cache/receipts/receipts.ts';
import { receiptKey } from '../../../../core/cache/layout.ts';
import {
  maxNamedMissing,
  maxReceiptBytes,
  maxReceiptTextLength,
  maxReceiptWarnings,
} from '../../../../core/limits.ts';
import { storeHash } from '../../../../core/nix/store-path.ts';
import { testPath } from '../../../support/cache/paths.ts';
import { memoryBucket } from '../../../support/buckets/memory-bucket.ts';

const upload = '019b76da-a800-7101-8101-010101010101';
const other = '019b76da-a800-7202-8202-020202020202';
const hello = await testPath('hello');
const hash = storeHash(hello.info.path);
const now = '2026-01-01T00:00:00.000Z';
const strength: readonly ReceiptStatus[] = ['waiting', 'rejected', 'exists', 'published'];

describe('receipts', () => {
  it('count by strength, in any order of writing', async () => {
    const property = fc.asyncProperty(
      fc.array(fc.constantFrom(...strength), { minLength: 1, maxLength: 6 }),
      async (statuses) => {
        const bucket = memoryBucket();
        for (const status of statuses) {
          await writeReceipt(bucket, upload, hash, { path: hello.info.path, status, at: now });
        }
        const strongest = strength.findLast((status) => statuses.includes(status));
        assert.deepEqual(await listStatuses(bucket, upload), new Map([[hash, strongest]]));
      },
    );
    await fc.assert(property, { numRuns: 50 });
  });

  it('replace what a client has created under their key, and belong to one upload', async () => {
    const bucket = memoryBucket();
    await bucket.put(receiptKey(upload, hash, 'rejected'), Buffer.from('squatted'));
    await writeReceipt(bucket, upload, hash, { status: 'rejected', code: 'failed', at: now });
    await writeReceipt(bucket, other, '3', { status: 'rejected', at: now });
    assert.equal((await readReceipt(bucket, upload, hash, 'rejected'))?.at, now);
    assert.equal(await readReceipt(bucket, upload, hash, 'published'), null);
    assert.deepEqual(await listStatuses(bucket, other), new Map([['3', 'rejected']]));
    await bucket.put(`receipts/${upload}/strange`, Buffer.from('x'));
    await bucket.put(`receipts/${upload}/${hash}.unknown.json`, Buffer.from('x'));
    assert.equal((await listStatuses(bucket, upload)).size, 1);
    assert.deepEqual(strength.map(isFinal), [false, true, true, true]);
  });

  it('are read only when the listing lacks their details', async () => {
    const gets: string[] = [];
    const bucket = memoryBucket({
      before: (operation, key) => operation === 'get' && gets.push(key),
    });
    const { path } = hello.info;
    const at = new Date().toISOString();
    const warnings = ['the contents mention a store path that is no reference'];
    const rejection = { status: 'rejected', code: 'failed', message: 'm' } as const;
    const outcomes = [
      [hash, { status: 'published' }],
      ['a'.repeat(32), { status: 'published', warnings }],
      ['b'.repeat(32), rejection],
    ] as const;
    for (const [subject, outcome] of outcomes) {
      await writeReceipt(bucket, upload, subject, { path, ...outcome, at });
    }
    const listed = await listStrongestReceipts(bucket, upload);
    for (const [subject, outcome] of outcomes) {
      const read = await readListedOutcome(bucket, listed.get(subject)!, path);
      assert.deepEqual(
        { ...read, path: undefined, at: undefined },
        { ...outcome, path: undefined, at: undefined },
      );
    }
    assert.equal(gets.length, 2);
  });

  it('keep the status of their key when they are damaged', async () => {
    const bucket = memoryBucket();
    const { path } = hello.info;
    const whole = formatReceipts([{ path, status: 'rejected', code: 'failed' }], now);
    const key = receiptKey(upload, hash, 'rejected');
    for (const text of [
      '',
      whole.slice(0, -1),
      whole.replace('"version":1', '"version":2'),
      '[]',
    ]) {
      await bucket.put(key, Buffer.from(text));
      await assert.rejects(readReceipt(bucket, upload, hash, 'rejected'), {
        code: 'malformed-receipt',
      });
      const listed = (await listStrongestReceipts(bucket, upload)).get(hash)!;
      const receipt = await readListedReceipt(bucket, listed);
      assert.equal(receipt?.status, 'rejected');
      assert.match(receipt.message ?? '', /rejected\.json/);
      assert.deepEqual(await readListedOutcome(bucket, listed, path), receipt);
    }
    await bucket.put(key, Buffer.alloc(maxReceiptBytes + 1, whole));
    await assert.rejects(readReceipt(bucket, upload, hash, 'rejected'), {
      code: 'malformed-receipt',
    });
  });

  it('are cut to the limits of readers', async () => {
    const bucket = memoryBucket();
    const text = '\u001b'.repeat(maxReceiptTextLength + 1);
    const warnings = Array.from({ length: maxReceiptWarnings + 1 }, () => text);
    const missing = Array.from(
      { length: maxNamedMissing + 1 },
      () => `/${'x'.repeat(800)}${hello.info.path}`,
    );
    const receipt: Receipt = {
      path: hello.info.path,
      status: 'waiting',
      message: text,
      warnings,
      missing,
      at: now,
    };
    await writeReceipt(bucket, upload, hash, receipt);
    const read = await readReceipt(bucket, upload, hash, 'waiting');
    assert.equal(read?.message?.length, 2);
    assert.equal(read.warnings?.length, maxReceiptWarnings);
    assert.equal(read.missing?.length, maxNamedMissing);
  });
});
