import assert from 'node:assert/strict';
import { test } from 'node:test';

import { readAuditRecords } from '../../../../core/cache/audit.ts';
import { blockedKey, parseNarInfoKey } from '../../../../core/cache/layout.ts';
import { findDependents, resignNarInfos } from '../../../../core/cache/keys/resign.ts';
import type { ResignOptions } from '../../../../core/cache/keys/resign.ts';
import { formatPublicKey, formatSecretKey, generateSecretKey } from '../../../../core/nix/keys.ts';
import { secretKeySigner } from '../../../../core/signing/secret-key.ts';
import { listKeys } from '../../../support/assert/bytes.ts';
import { CrashError, crashAtWrite } from '../../../support/buckets/crash.ts';
import { countResigned, writeNarInfos } from '../../../support/cache/many-narinfos.ts';
import { memoryBucket, memoryStore } from '../../../support/buckets/memory-bucket.ts';

const writing = new Set(['put', 'replace'] as const);
const [old, next] = [generateSecretKey('old-1'), generateSecretKey('next-2')];
const count = 5;

const options = (bucket: ResignOptions['public']): ResignOptions => ({
  public: bucket,
  private: bucket,
  config: {
    publicKeys: [old, next].map(({ publicKey }) => formatPublicKey(publicKey)),
    storeDir: '/nix/store',
  },
  signers: [secretKeySigner(formatSecretKey(next))],
  version: 'niche test',
});

test('a damaged narinfo prevents neither other signatures nor the retirement of a key', async () => {
  const bucket = memoryBucket();
  const before = await writeNarInfos(bucket, old, count);
  const [damaged = ''] = before.keys();
  await bucket.put(damaged, Buffer.from('StorePath'));
  const tally = await resignNarInfos(options(bucket));
  assert.equal(tally.signed, count - 1);
  assert.deepEqual(tally.unverified, [damaged]);
  assert.deepEqual(await findDependents(options(bucket), formatPublicKey(old.publicKey)), []);
});

test('a narinfo without a signature of the cache is not signed', async () => {
  const bucket = memoryBucket();
  const strange = await writeNarInfos(bucket, generateSecretKey('old-1'), 1);
  assert.deepEqual((await resignNarInfos(options(bucket))).unverified, [...strange.keys()]);
  assert.equal((await countResigned(bucket, strange, 'next-2')).untouched, 1);
});

test('resign changes nothing with a wrong signer, after an abort, or without conditional replacement', async () => {
  const bucket = memoryBucket();
  const before = await writeNarInfos(bucket, old, count);
  const signer = secretKeySigner(formatSecretKey(next));
  const liar = { ...signer, sign: () => signer.sign('something else') };
  await assert.rejects(resignNarInfos({ ...options(bucket), signers: [liar] }), {
    code: 'wrong-key',
  });
  const signal = AbortSignal.abort();
  await assert.rejects(resignNarInfos({ ...options(bucket), signal }), { code: 'aborted' });
  const capabilities = { ...bucket.capabilities, conditionalReplace: false };
  await assert.rejects(resignNarInfos(options({ ...bucket, capabilities })), { code: 'usage' });
  assert.equal((await countResigned(bucket, before, 'next-2')).untouched, count);
  assert.deepEqual(await listKeys(bucket, 'audit/'), []);
});

test('resign completes when it runs again after a crash at any write', async () => {
  // One audit object, and each narinfo.
  for (let nth = 1; nth <= count + 1; nth += 1) {
    for (const moment of ['before', 'after'] as const) {
      const store = memoryStore();
      const bucket = memoryBucket({ store });
      const before = await writeNarInfos(bucket, old, count);
      const crash = crashAtWrite(nth, moment, writing);
      await assert.rejects(resignNarInfos(options(memoryBucket({ store, ...crash }))), CrashError);
      const midway = await countResigned(bucket, before, 'next-2');
      // Several are replaced concurrently, so others may have succeeded too.
      assert.ok(midway.resigned >= nth - (moment === 'before' ? 2 : 1));
      assert.ok(moment === 'after' || midway.untouched > 0);
      assert.equal(midway.resigned + midway.untouched, count);
      assert.deepEqual(midway.spoilt, []);

      const tally = await resignNarInfos(options(bucket));
      assert.equal(tally.signed, midway.untouched);
      assert.equal(tally.complete, midway.resigned);
      assert.deepEqual(await countResigned(bucket, before, 'next-2'), {
        ...{ resigned: count, untouched: 0, spoilt: [] },
      });
      // Every visible signature is in the audit log.
      const audited = new Set<string>();
      for await (const record of readAuditRecords(bucket)) {
        for (const signature of record.signatures) audited.add(signature);
      }
      for (const key of before.keys()) {
        const text = Buffer.from(store.objects.get(key)?.bytes ?? []).toString();
        const signature = /^Sig: (next-2:.+)$/m.exec(text)?.[1] ?? '';
        assert.ok(audited.has(signature), key);
      }
    }
  }
});

test('a blocked path is not signed, and withdrawn if it is blocked meanwhile', async () => {
  const store = memoryStore();
  const bucket = memoryBucket({ store });
  const [early = '', late = ''] = (await writeNarInfos(bucket, old, count)).keys();
  const hashOf = (key: string): string => parseNarInfoKey(key) ?? '';
  await bucket.put(blockedKey(hashOf(early)), Buffer.from('{}'));
  const blocking = memoryBucket({
    store,
    async after(operation, key) {
      if (operation === 'replace' && key === late) {
        await bucket.put(blockedKey(hashOf(late)), Buffer.from('{}'));
      }
    },
  });
  const tally = await resignNarInfos(options(blocking));
  assert.deepEqual([tally.signed, tally.blocked], [count - 2, 2]);
  assert.deepEqual([await bucket.head(early), await bucket.head(late)], [null, null]);
  assert.equal((await resignNarInfos(options(bucket))).complete, count - 2);
});
