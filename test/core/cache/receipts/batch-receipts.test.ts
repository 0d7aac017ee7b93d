import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  createBatchReceiptReader,
  writeReceipts,
} from '../../../../core/cache/receipts/batch-receipts.ts';
import type { PathOutcome } from '../../../../core/cache/receipts/batch-receipts.ts';
import { batchReceiptKey, receiptKey } from '../../../../core/cache/layout.ts';
import {
  listStatuses,
  listStrongestReceipts,
  readListedOutcome,
  readListedReceipt,
} from '../../../../core/cache/receipts/listed-receipts.ts';
import { parseStoredJson } from '../../../../core/cache/stored-json.ts';
import {
  receiptFormat,
  receiptStatuses,
  writeReceipt,
} from '../../../../core/cache/receipts/receipts.ts';
import type { Receipt, ReceiptStatus } from '../../../../core/cache/receipts/receipts.ts';
import { maxReceiptBytes, maxNamedMissing, maxReceiptTextLength } from '../../../../core/limits.ts';
import { storeHash } from '../../../../core/nix/store-path.ts';
import { listKeys, readObject } from '../../../support/assert/bytes.ts';
import { createTestCache } from '../../../support/cache/kit.ts';
import type { TestCache } from '../../../support/cache/kit.ts';
import { inventedPath, testPath } from '../../../support/cache/paths.ts';
import { crashAtWrite, CrashError } from '../../../support/buckets/crash.ts';
import { faultyBucket } from '../../../support/buckets/faulty-bucket.ts';
import { memoryBucket } from '../../../support/buckets/memory-bucket.ts';
import type { BucketOperation } from '../../../support/buckets/memory-bucket.ts';

const upload = '019b76da-a800-7101-8101-010101010101';
const id = { upload, batch: 3 };
const at = '2026-01-02T03:04:05.678Z';
const hourMs = 3_600_000;
const [one, two, three] = [inventedPath('one'), inventedPath('two'), inventedPath('three')];
const batchKey = /^receipts\/[0-9a-f-]{36}\/[0-9]+\.[0-9a-f]{16}\.[a-z]+(-[a-z]+)*\.json$/;

const keysOf = (cache: Pick<TestCache, 'staging'>): Promise<string[]> =>
  listKeys(cache.staging, 'receipts/');

describe('a batch receipt', () => {
  it('covers several paths, with their statuses in its key', async () => {
    const bucket = memoryBucket();
    const outcomes: PathOutcome[] = [
      { path: one, status: 'published', warnings: ['a warning'] },
      { path: two, status: 'waiting', missing: [three] },
      { path: three, status: 'rejected', code: 'malformed-nar', message: 'no NAR' },
    ];
    await writeReceipts(bucket, id, outcomes, at);
    const [key = '', ...more] = await keysOf({ staging: bucket });
    assert.deepEqual(more, []);
    assert.match(key, /^receipts\/[^/]+\/3\.[0-9a-f]{16}\.waiting-rejected-published\.json$/);
    const listed = await listStrongestReceipts(bucket, upload);
    for (const outcome of outcomes) {
      const found = listed.get(storeHash(outcome.path))!;
      assert.equal(found.status, outcome.status);
      assert.deepEqual(await readListedReceipt(bucket, found), { ...outcome, at });
      assert.deepEqual(await readListedOutcome(bucket, found, outcome.path), { ...outcome, at });
    }
  });

  it('is never overwritten: a second write creates another', async () => {
    const bucket = memoryBucket();
    for (const status of ['waiting', 'published', 'exists'] as const) {
      const outcomes = [one, two].map((path): PathOutcome => ({ path, status }));
      await writeReceipts(bucket, id, outcomes, at);
    }
    assert.equal((await keysOf({ staging: bucket })).length, 3);
    const expected = [one, two].map((path) => [storeHash(path), 'published'] as const);
    assert.deepEqual(await listStatuses(bucket, upload), new Map(expected));
  });

  it('stays within the limits of readers; a single path has a receipt of its own', async () => {
    const bucket = memoryBucket();
    await writeReceipts(bucket, id, [{ path: one, status: 'published' }], at);
    assert.deepEqual(await keysOf({ staging: bucket }), [
      receiptKey(upload, storeHash(one), 'published'),
    ]);

    const missing = Array.from({ length: 2 * maxNamedMissing }, (_, n) =>
      inventedPath(`${n}-${'x'.repeat(200)}`),
    );
    const long = 'y'.repeat(maxReceiptTextLength + 1);
    const outcomes = Array.from({ length: 100 }, (_, n): PathOutcome => {
      const path = inventedPath(`path-${n}`);
      return n === 7
        ? { path, status: 'rejected', code: 'failed', message: long }
        : { path, status: 'waiting', missing };
    });
    await writeReceipts(bucket, { upload, batch: 4 }, outcomes, at);
    const keys = (await keysOf({ staging: bucket })).filter((key) => batchKey.test(key));
    assert.equal(keys.length, 3);
    assert.equal((await keysOf({ staging: bucket })).length, 4);
    for (const key of keys) {
      const { size = Infinity } = (await bucket.head(key)) ?? {};
      assert.ok(size <= maxReceiptBytes, `${size} bytes`);
    }
    const listed = await listStrongestReceipts(bucket, upload);
    for (const { path, status } of outcomes) {
      const found = listed.get(storeHash(path))!;
      const receipt = await readListedReceipt(bucket, found);
      assert.equal(receipt?.status, status);
      if (status === 'waiting')
        assert.deepEqual(receipt.missing, missing.slice(0, maxNamedMissing));
      else assert.equal(receipt.message, `${'y'.repeat(maxReceiptTextLength - 1)}…`);
    }
  });

  const entry = { path: one, status: 'published' };
  const documentOf = (change: object, top: object = {}): string =>
    JSON.stringify({ version: 1, at, receipts: [{ ...entry, ...change }], ...top });
  const parse = (text: string): Receipt[] => parseStoredJson(text, 'x.json', receiptFormat);
  const refuses = (text: string): void => {
    assert.throws(() => parse(text), { code: 'malformed-receipt' }, text.slice(0, 500));
  };

  it('may have fields of a later release', () => {
    assert.deepEqual(parse(documentOf({ later: { x: 1 }, __proto__: 1 }, { more: 2 })), [
      { ...entry, at },
    ]);
    assert.equal(parse(documentOf({ code: 'a-later-code' }))[0]?.code, 'a-later-code');
  });

  it('is refused when it is hostile or damaged', () => {
    const paths = [
      ...[null, 1, [], {}, '', one.slice(1), `${one}\n`, `/${'x'.repeat(2000)}${one}`],
      ...['/nix/store/../x', '/nix/store/aaaa-b', `/\u001b[31m${one}`, `${one}/bin`],
    ];
    const text = 'x'.repeat(maxReceiptTextLength + 1);
    const changes = [
      ...paths.map((path) => ({ path })),
      ...paths.map((path) => ({ missing: [path] })),
      ...[null, 1, '', 'Published', 'published ', []].map((status) => ({ status })),
      ...[null, 1, '', 'UPPER', 'a b', '\u001b', 'a'.repeat(65)].map((code) => ({ code })),
      ...[null, 1, [], text].map((message) => ({ message })),
      ...[null, 1, 'x', [1], [text], Array.from({ length: 17 }, () => 'x')].map((warnings) => {
        return { warnings };
      }),
      ...[null, {}, Array.from({ length: 101 }, () => one)].map((missing) => ({ missing })),
    ];
    for (const change of changes) {
      refuses(documentOf(change));
    }
    for (const top of [
      ...[{ version: 2 }, { version: '1' }, { version: undefined }],
      ...[{ at: 'now' }, { at: 1 }, { at: undefined }, { at: `${at}\n` }],
      ...[{ receipts: [] }, { receipts: {} }, { receipts: null }, { receipts: [null] }],
      { receipts: Array.from({ length: 257 }, () => entry) },
    ]) {
      refuses(documentOf({}, top));
    }
    for (const whole of ['', '{', 'null', '[]', '"x"', '\0', '['.repeat(100_000)]) {
      refuses(whole);
    }
  });

  it('cannot move the cursor of its reader', () => {
    const [receipt] = parse(
      documentOf({ message: 'a\u001b[2J\r\nb', warnings: ['\u0007\u009bc'] }),
    );
    assert.deepEqual([receipt?.message, receipt?.warnings], ['a [2J b', [' c']]);
  });

  it('is refused when it is cut anywhere', () => {
    const text = documentOf({ message: 'whole' });
    for (let length = 0; length < text.length; length += 1) {
      refuses(text.slice(0, length));
    }
  });

  it('counts as missing when it is damaged or too large, and hides no other', async () => {
    const bucket = memoryBucket();
    const damaged = ['', '{', documentOf({ path: 'x' }), 'x'.repeat(maxReceiptBytes + 1)];
    for (const [index, text] of damaged.entries()) {
      const key = batchReceiptKey(id, String(index).repeat(16), ['published']);
      await bucket.put(key, Buffer.from(text));
    }
    assert.deepEqual(await listStatuses(bucket, upload), new Map());
    await writeReceipts(
      bucket,
      id,
      [one, two].map((path): PathOutcome => ({ path, status: 'exists' })),
      at,
    );
    assert.equal((await listStatuses(bucket, upload)).size, 2);
  });

  it('is not missing when it is denied', async () => {
    const bucket = memoryBucket();
    await bucket.put(
      batchReceiptKey(id, '0'.repeat(16), ['published']),
      Buffer.from(documentOf({})),
    );
    for (const fault of ['denied', 'unavailable'] as const) {
      const down = faultyBucket(bucket, (operation) => (operation === 'get' ? fault : undefined));
      await assert.rejects(listStatuses(down, upload), { code: `storage-${fault}` });
    }
  });

  it('is recognized by its key alone', async () => {
    const bucket = memoryBucket();
    const body = Buffer.from(documentOf({}));
    const names = [
      ...['3.0011223344556677.json', '3.0011223344556677..json', '3.00112233.published.json'],
      ...['x.0011223344556677.published.json', '03.0011223344556677.published.json'],
      ...['3.0011223344556677.published.json.tmp', '3.0011223344556677.published.txt'],
    ];
    for (const name of names) await bucket.put(`receipts/${upload}/${name}`, body);
    assert.deepEqual(await listStatuses(bucket, upload), new Map());
    await bucket.put(`receipts/${upload}/3.0011223344556677.published.json`, body);
    assert.equal((await listStatuses(bucket, upload)).size, 1);
  });
});

describe('receipts of one path and of several', () => {
  it('count by strength, in any order', async () => {
    const paths = [one, two, three];
    const written = fc.record({
      isSingle: fc.boolean(),
      statuses: fc.array(fc.constantFrom(...receiptStatuses), { minLength: 3, maxLength: 3 }),
    });
    const property = fc.asyncProperty(
      fc.array(written, { minLength: 1, maxLength: 5 }),
      async (all) => {
        const bucket = memoryBucket();
        for (const { isSingle, statuses } of all) {
          const outcomes = paths.map((path, n): PathOutcome => ({ path, status: statuses[n]! }));
          if (isSingle) {
            for (const outcome of outcomes) {
              await writeReceipt(bucket, upload, storeHash(outcome.path), { ...outcome, at });
            }
          } else await writeReceipts(bucket, id, outcomes, at);
        }
        const strongest = paths.map((path, n): [string, ReceiptStatus | undefined] => {
          const of = receiptStatuses.findLast((status) =>
            all.some(({ statuses }) => statuses[n] === status),
          );
          return [storeHash(path), of];
        });
        assert.deepEqual(await listStatuses(bucket, upload), new Map(strongest));
      },
    );
    await fc.assert(property, { numRuns: 50 });
  });

  it('cost one LIST a poll, and one GET for each new object', async () => {
    const asked: string[] = [];
    const bucket = memoryBucket({
      before: (operation: BucketOperation) => {
        if (operation === 'list' || operation === 'get') asked.push(operation);
      },
    });
    const reader = createBatchReceiptReader(bucket);
    const look = async (): Promise<[number, string[]]> => {
      const listed = await listStrongestReceipts(bucket, upload, reader);
      // Waiting paths in a batch receipt cost no extra request.
      for (const { receipt } of listed.values()) assert.ok(receipt);
      return [listed.size, asked.splice(0).sort()];
    };
    const conclude = (batch: number, status: ReceiptStatus): Promise<void> => {
      const outcomes = Array.from({ length: 256 }, (_, n): PathOutcome => {
        return { path: inventedPath(`path-${batch}-${n}`), status };
      });
      return writeReceipts(bucket, { upload, batch }, outcomes, at);
    };
    assert.deepEqual(await look(), [0, ['list']]);
    await conclude(0, 'published');
    assert.deepEqual(await look(), [256, ['get', 'list']]);
    assert.deepEqual(await look(), [256, ['list']]);
    await conclude(1, 'waiting');
    await conclude(2, 'rejected');
    assert.deepEqual(await look(), [768, ['get', 'get', 'list']]);
    assert.deepEqual(await look(), [768, ['list']]);
  });
});

const library = await testPath('library');
const tool = await testPath('tool', { references: [library] });
const waits = await testPath('waits', { references: [await testPath('absent')] });

describe('a publisher', () => {
  it('writes one receipt for the paths of a batch', async () => {
    const cache = createTestCache();
    const staged = await cache.stage([library, tool, waits]);
    await cache.publish(staged);
    const keys = await keysOf(cache);
    assert.equal(keys.length, 1);
    assert.match(keys[0]!, /\/0\.[0-9a-f]{16}\.waiting-published\.json$/);
    assert.equal((await cache.receipt(staged.upload, tool.info))?.status, 'published');
    const missing = waits.info.references;
    assert.deepEqual((await cache.receipt(staged.upload, waits.info))?.missing, missing);
    // A path that waited gets its own receipt.
    await cache.publish(await cache.stage([await testPath('absent')]));
    assert.equal((await cache.receipt(staged.upload, waits.info))?.status, 'published');
    const own = receiptKey(staged.upload, storeHash(waits.info.path), 'published');
    assert.ok((await keysOf(cache)).includes(own));
  });

  it('writes its own receipt when another publisher handles the batch too', async () => {
    const cache = createTestCache();
    const staged = await cache.stage([library, tool]);
    let isFirst = true;
    const slow = cache.publisher({
      hooks: {
        // The other publisher finishes before this one writes its first receipt.
        before: async (operation, key) => {
          if (operation !== 'put' || !key.startsWith('receipts/') || !isFirst) return;
          isFirst = false;
          await cache.publisher().publishBatch(staged);
        },
      },
    });
    await slow.publishBatch(staged);
    const keys = await keysOf(cache);
    assert.deepEqual(keys.map((key) => key.split('.').at(-2)).sort(), ['exists', 'published']);
    for (const { info } of [library, tool]) {
      assert.equal((await cache.receipt(staged.upload, info))?.status, 'published');
    }
  });

  it('writes another receipt after a crash between receipt and manifest', async () => {
    const cache = createTestCache();
    const staged = await cache.stage([library, tool]);
    const crash = crashAtWrite(1, 'before', new Set(['delete'] as const));
    const doomed = cache.publisher({ hooks: crash });
    await assert.rejects(doomed.publishBatch(staged), CrashError);
    assert.equal((await keysOf(cache)).length, 1);
    assert.equal((await cache.receipt(staged.upload, tool.info))?.status, 'published');
    // After a crash, each path is published alone and has its own receipt.
    cache.advance(hourMs);
    await cache.publish(staged);
    assert.equal((await cache.receipt(staged.upload, tool.info))?.status, 'published');
    const own = [library, tool].map(({ info }) =>
      receiptKey(staged.upload, storeHash(info.path), 'exists'),
    );
    assert.deepEqual(
      (await keysOf(cache)).filter((key) => !batchKey.test(key)),
      own.sort(),
    );
    assert.deepEqual(await listKeys(cache.staging, 'staging/'), []);
  });

  it('continues after the paths that earlier calls reported', async () => {
    const cache = createTestCache();
    const small = await Promise.all(['s', 't'].map((name) => testPath(name)));
    const large = await testPath('large', { contents: 'x'.repeat(7760) });
    const publisher = cache.publisher({ timeLimitMs: 10_000, bytesPerSecond: 1000 });
    const staged = await cache.stage([...small, large]);
    const call = { timeLeftMs: () => 10_000 };
    await assert.rejects(publisher.publishBatch(staged, call), { code: 'out-of-time' });
    assert.equal((await keysOf(cache)).length, 1);
    const last = await publisher.publishBatch(staged, call);
    assert.deepEqual(
      last.map(({ path, outcome }) => [path, outcome.status]),
      [[large.info.path, 'published']],
    );
    assert.equal((await listStatuses(cache.staging, staged.upload)).size, 3);
    const keys = await keysOf(cache);
    assert.deepEqual(keys.map((key) => batchKey.test(key)).sort(), [false, true]);
    for (const key of keys) assert.ok((await readObject(cache.staging, key))!.length > 0);
  });

  it('deletes old batch receipts in its sweep', async () => {
    const cache = createTestCache();
    await cache.publish(await cache.stage([library, tool]));
    cache.advance(29 * 24 * hourMs);
    await cache.sweep();
    assert.equal((await keysOf(cache)).length, 1);
    cache.advance(24 * hourMs);
    await cache.sweep();
    assert.deepEqual(await keysOf(cache), []);
  });
});
