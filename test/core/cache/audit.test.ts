import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { readAuditObject, readAuditRecords, writeAuditRecords } from '../../../core/cache/audit.ts';
import type { AuditRecord } from '../../../core/cache/audit.ts';
import { maxDocumentBytes } from '../../../core/limits.ts';
import { listKeys } from '../../support/assert/bytes.ts';
import { memoryBucket } from '../../support/buckets/memory-bucket.ts';
import { auditRecords, testSigner } from '../../support/cache/kit.ts';
import { testPath } from '../../support/cache/paths.ts';

const upload = '019b76da-a800-7101-8101-010101010101';
const hello = await testPath('hello');

describe('the audit log', () => {
  const { path, narHash, narSize, references } = hello.info;
  const record: AuditRecord = {
    ...{ version: 1, at: '2026-01-02T03:04:05.678Z', path, narHash, narSize, references },
    unclaimed: { count: 0, first: [] },
    ...{ signatures: ['a:b'], signers: [{ publicKey: testSigner('a').publicKey }], origin: null },
    ...{ upload, publisher: 'test' },
  };

  it('has one object for each batch, by day', async () => {
    const bucket = memoryBucket();
    const other = { ...record, path: `${path}-2` };
    await Promise.all([
      writeAuditRecords(bucket, [record]),
      writeAuditRecords(bucket, [record, other]),
    ]);
    const keys = await listKeys(bucket);
    assert.equal(keys.length, 2);
    for (const key of keys) {
      assert.match(key, /^audit\/2026\/01\/02\/03-04-05\.678Z-[0-9a-f]{16}\.jsonl$/);
    }
    assert.deepEqual(await auditRecords({ private: bucket }), [record, record, other]);
  });

  it('returns the other records before it reports a damaged one', async () => {
    const bucket = memoryBucket();
    const line = JSON.stringify(record);
    const damaged = [
      ...['{', 'null', '[]', line.slice(0, -1), line.replace('"version":1', '"version":2')],
      ...[{ path: 'x' }, { at: 'now' }, { signatures: [1] }, { signers: [{ publicKey: 'x' }] }].map(
        (change) => JSON.stringify({ ...record, ...change }),
      ),
    ];
    for (const [index, text] of damaged.entries()) {
      const key = `audit/2026/01/02/${index}.jsonl`;
      await bucket.put(key, Buffer.from(`${line}\n${text}\n${line}\n`));
      const { records, damage } = await readAuditObject(bucket, key);
      assert.equal(records.length, 2, text);
      assert.deepEqual(
        damage.map(({ code }) => code),
        ['malformed-audit'],
      );
      assert.match(damage[0]?.message ?? '', /line 2 of audit/);
    }
    await bucket.put('audit/2026/01/02/too-large.jsonl', Buffer.alloc(maxDocumentBytes + 1));
    const read: AuditRecord[] = [];
    const all = (async () => {
      for await (const each of readAuditRecords(bucket)) read.push(each);
    })();
    await assert.rejects(all, {
      code: 'malformed-audit',
      message: new RegExp(`^${damaged.length + 1} `),
    });
    assert.equal(read.length, 2 * damaged.length);
  });

  it('is split at the size limit of readers', async () => {
    const bucket = memoryBucket();
    const references = Array.from({ length: 10_000 }, () => 'x'.repeat(250));
    const records = Array.from({ length: 8 }, () => ({ ...record, references }));
    await writeAuditRecords(bucket, records);
    assert.equal((await listKeys(bucket)).length, 3);
    assert.equal((await auditRecords({ private: bucket })).length, 8);
  });

  it('keeps fields that this release does not define', async () => {
    const bucket = memoryBucket();
    const later: AuditRecord & { readonly later: string } = { ...record, later: 'x' };
    await writeAuditRecords(bucket, [later]);
    assert.deepEqual(await auditRecords({ private: bucket }), [later]);
  });
});
