import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { pendingKey } from '../../../../core/cache/layout.ts';
import { createPendingPaths } from '../../../../core/cache/publish/pending.ts';
import type { PathInfo } from '../../../../core/nix/path-info.ts';
import { storeHash } from '../../../../core/nix/store-path.ts';
import { listKeys, readObject } from '../../../support/assert/bytes.ts';
import { memoryBucket } from '../../../support/buckets/memory-bucket.ts';
import { checkInvariants } from '../../../support/cache/invariants.ts';
import { auditRecords, createTestCache } from '../../../support/cache/kit.ts';
import type { TestCache } from '../../../support/cache/kit.ts';
import { narHashOf, testPath } from '../../../support/cache/paths.ts';
import type { TestPath } from '../../../support/cache/paths.ts';

const glibc = await testPath('glibc');
const hello = await testPath('hello', { references: [glibc] });
const bash = await testPath('bash', { references: [glibc] });

interface Parked {
  readonly cache: TestCache;
  readonly upload: string;
  /** The key of the record of `hello`. */
  readonly key: string;
}

/** Parks `hello` and the others, and replaces the record of `hello` with `damage` of it. */
async function parkDamaged(
  damage: (record: object) => string,
  others: readonly TestPath[] = [],
): Promise<Parked> {
  const cache = createTestCache();
  const { upload } = await cache.stage([hello, ...others]);
  await cache.publish({ upload, batch: 0 });
  const key = pendingKey(storeHash(hello.info.path), upload);
  const record = JSON.parse(String(await readObject(cache.private, key))) as object;
  await cache.private.put(key, Buffer.from(damage(record)));
  return { cache, upload, key };
}

describe('pending paths', () => {
  const upload = '019b76da-a800-7101-8101-010101010101';
  const other = '019b76da-a800-7202-8202-020202020202';
  const hash = storeHash(hello.info.path);
  const nar = {
    url: 'nar/x',
    compression: 'none',
    fileHash: hello.info.narHash,
    fileSize: 1,
  } as const;
  const unclaimed = { count: 0, first: [] };
  const candidate = { info: hello.info, nar, unclaimed, upload, origin: null };
  const since = '2026-01-02T03:04:05.678Z';

  it('are found by their missing reference until they are deleted', async () => {
    const bucket = memoryBucket();
    const pending = createPendingPaths(bucket);
    const attachments = { listing: Buffer.from('{}'), log: Buffer.from('log') };
    const waiting = {
      reference: storeHash(glibc.info.path),
      storeHash: hash,
      upload,
    };
    assert.equal(await pending.readRecord(hash, upload), null);
    await pending.park(candidate, attachments, waiting.reference, since);
    assert.deepEqual(await pending.readRecord(hash, upload), {
      version: 1,
      ...candidate,
      since,
      isOwn: true,
    });
    assert.deepEqual(await pending.readAttachments(hash, upload), attachments);
    assert.equal(await pending.readRecord(hash, other), null);
    const found = [];
    for await (const each of pending.listWaiting()) found.push(each);
    assert.deepEqual(found, [waiting]);
    for (const references of [[waiting.reference], [hash, waiting.reference]]) {
      assert.deepEqual(await pending.findWaiting(references), [waiting]);
    }
    assert.deepEqual(await pending.findWaiting([hash]), []);
    await pending.unmarkWaiting([waiting]);
    await pending.deleteRecord(hash, upload);
    assert.deepEqual(await listKeys(bucket), []);
    assert.deepEqual(await pending.readAttachments(hash, upload), { listing: null, log: null });
  });

  it('are found with one LIST, and with one per reference when very many paths wait', async () => {
    const lists: string[] = [];
    const bucket = memoryBucket({
      before: (operation, key) => operation === 'list' && lists.push(key),
    });
    const pending = createPendingPaths(bucket);
    const a = 'a'.repeat(32);
    const b = 'b'.repeat(32);
    const c = 'c'.repeat(32);
    const d = 'd'.repeat(32);
    const wanted = { reference: d, storeHash: hash, upload };
    await pending.markWaiting(wanted);
    assert.deepEqual(await pending.findWaiting([c, d]), [wanted]);
    assert.deepEqual(lists.splice(0), ['waiting/']);
    for (let index = 0; index < 1000; index += 1) {
      const storeHash = String(index).padStart(32, '0');
      await pending.markWaiting({ reference: index % 2 === 0 ? a : b, storeHash, upload });
    }
    assert.deepEqual(await pending.findWaiting([c, d]), [wanted]);
    assert.deepEqual(lists, ['waiting/', `waiting/${c}/`, `waiting/${d}/`]);
  });

  it('have their record before their marker, and no empty attachments', async () => {
    const written: string[] = [];
    const bucket = memoryBucket({ after: (_, key) => written.push(key.split('/')[0]!) });
    await createPendingPaths(bucket).park(candidate, { listing: null, log: null }, hash, 'then');
    assert.deepEqual(written, ['pending', 'waiting']);
  });
});

describe('a pending record that no publisher wrote', () => {
  const evil = Buffer.from('evil');
  const forgeries: readonly (readonly [what: string, forge: (record: object) => object])[] = [
    ['of a NAR at another address', (record) => withNar(record, 'http://127.0.0.1:1/evil.nar')],
    ['of a NAR with another hash', (record) => withNar(record, `nar/${'0'.repeat(52)}.nar`)],
    ['of a NAR that is missing', (record) => withNar(record, suffixed(record))],
    [
      'with another NAR hash',
      (record) => withInfo(record, { narHash: narHashOf(evil), narSize: evil.length }),
    ],
    [
      'with a reference that the NAR lacks',
      (record) => withInfo(record, { references: [bash.info.path, glibc.info.path] }),
    ],
    [
      'with a false content address',
      (record) => withInfo(record, { ca: `fixed:r:sha256:${'0'.repeat(52)}` }),
    ],
  ];

  for (const [what, forge] of forgeries) {
    it(`${what} is rejected, and nothing is signed`, async () => {
      const { cache, upload } = await parkDamaged(
        (record) => JSON.stringify(forge(record)),
        [bash],
      );
      await cache.publish(await cache.stage([glibc]), cache.publisher());
      const rejected = await cache.receipt(upload, hello.info);
      assert.equal(rejected?.status, 'rejected', JSON.stringify(rejected));
      const signed = (await auditRecords(cache)).map(({ path }) => path);
      assert.ok(!signed.includes(hello.info.path));
      assert.equal((await cache.receipt(upload, bash.info))?.status, 'published');
    });
  }

  it('of a path whose NAR was never staged is rejected', async () => {
    const cache = createTestCache();
    const upload = cache.newUpload();
    const nar = {
      url: `nar/${narDigest(hello.info)}.nar.zst`,
      compression: 'zstd',
      fileHash: hello.info.narHash,
      fileSize: 1,
    };
    const record = {
      version: 1,
      info: { ...hello.info, references: [] },
      nar,
      unclaimed: { count: 0, first: [] },
      upload,
      origin: { via: 'event', principal: 'an administrator' },
      since: cache.now().toISOString(),
    };
    await cache.private.put(
      pendingKey(storeHash(hello.info.path), upload),
      Buffer.from(JSON.stringify(record)),
    );
    await cache.sweep();
    assert.equal((await cache.receipt(upload, hello.info))?.code, 'failed');
    assert.deepEqual(await auditRecords(cache), []);
  });

  it('publishes what was checked, and nothing else that it states', async () => {
    const { cache, upload } = await parkDamaged((record) => {
      const { nar } = record as { readonly nar: object };
      return JSON.stringify({ ...record, nar: { ...nar, fileHash: narHashOf(evil), fileSize: 7 } });
    });
    await cache.publish(await cache.stage([glibc]), cache.publisher());
    assert.equal((await cache.receipt(upload, hello.info))?.status, 'published');
    await checkInvariants({ ...cache, publicKeys: cache.config.publicKeys });
  });
});

describe('a damaged pending record', () => {
  const damages: readonly (readonly [what: string, damage: (record: object) => string])[] = [
    ['is empty', () => ''],
    ['is cut short', (record) => JSON.stringify(record).slice(0, 100)],
    ['has no NAR', (record) => JSON.stringify({ ...record, nar: undefined })],
    [
      'has a path that is no store path',
      (record) => JSON.stringify(withInfo(record, { path: '/tmp/x' })),
    ],
    ['is of another path', (record) => JSON.stringify(withInfo(record, { path: bash.info.path }))],
  ];

  for (const [what, damage] of damages) {
    it(`rejects its path, and no other, when it ${what}`, async () => {
      const { cache, upload } = await parkDamaged(damage, [bash]);
      await cache.publish(await cache.stage([glibc]));
      const rejected = await cache.receipt(upload, hello.info);
      assert.equal(rejected?.code, 'failed');
      assert.match(rejected.message ?? '', /^pending\/.* is not (JSON|valid)/);
      assert.equal((await cache.receipt(upload, bash.info))?.status, 'published');
      assert.deepEqual(await listKeys(cache.private, 'pending/'), []);
      assert.deepEqual(await listKeys(cache.private, 'waiting/'), []);
    });
  }

  it('does not keep its path from being uploaded again', async () => {
    const { cache, upload } = await parkDamaged(() => '{}');
    await cache.sweep(cache.publisher(), lastFirst);
    assert.equal((await cache.receipt(upload, hello.info))?.code, 'failed');
    const again = await cache.stage([glibc, hello]);
    await cache.publish(again);
    assert.equal((await cache.receipt(again.upload, hello.info))?.status, 'published');
  });
});

describe('a pending record of a later release', () => {
  it('is kept for a publisher that can read it', async () => {
    const { cache, upload, key } = await parkDamaged((record) =>
      JSON.stringify({ ...record, version: 2 }),
    );
    const waiting = {
      reference: storeHash(glibc.info.path),
      storeHash: storeHash(hello.info.path),
      upload,
    };
    await assert.rejects(cache.publisher().resumePath(waiting), { code: 'newer-version' });
    assert.notEqual(await cache.private.head(key), null);
    await assert.rejects(cache.sweep(cache.publisher(), lastFirst), { code: 'newer-version' });
    assert.equal((await cache.receipt(upload, hello.info))?.status, 'waiting');
  });
});

/** The record of `hello` comes after that of `bash`. */
const lastFirst = (): number => 0.99;

function withNar(record: object, url: string): object {
  const { nar } = record as { readonly nar: object };
  return { ...record, nar: { ...nar, url } };
}

/** Returns the key of the record's NAR with a suffix, where nothing is stored. */
function suffixed(record: object): string {
  const { nar } = record as { readonly nar: { readonly url: string } };
  return nar.url.replace('.nar', `-${'0'.repeat(16)}.nar`);
}

function narDigest({ narHash }: PathInfo): string {
  return narHash.replace('sha256:', '');
}

function withInfo(record: object, change: object): object {
  const { info } = record as { readonly info: object };
  return { ...record, info: { ...info, ...change } };
}
