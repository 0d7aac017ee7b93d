import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { pendingKey } from '../../../../core/cache/layout.ts';
import { storeHash } from '../../../../core/nix/store-path.ts';
import { listKeys, readObject } from '../../../support/assert/bytes.ts';
import { createTestCache } from '../../../support/cache/kit.ts';
import type { TestCache } from '../../../support/cache/kit.ts';
import { testPath } from '../../../support/cache/paths.ts';

const glibc = await testPath('glibc');
const hello = await testPath('hello', { references: [glibc] });
const bash = await testPath('bash', { references: [glibc] });

interface Parked {
  readonly cache: TestCache;
  readonly upload: string;
  /** The key of the record of `hello`. */
  readonly key: string;
}

/** Parks `hello` and `bash`, and replaces the record of `hello` with `damage` of it. */
async function parkDamaged(damage: (record: object) => string): Promise<Parked> {
  const cache = createTestCache();
  const { upload } = await cache.stage([hello, bash]);
  await cache.publish({ upload, batch: 0 });
  const key = pendingKey(storeHash(hello.info.path), upload);
  const record = JSON.parse(String(await readObject(cache.private, key))) as object;
  await cache.private.put(key, Buffer.from(damage(record)));
  return { cache, upload, key };
}

describe('a damaged pending record', () => {
  const damages: readonly (readonly [what: string, damage: (record: object) => string])[] = [
    ['is empty', () => ''],
    ['is cut short', (record) => JSON.stringify(record).slice(0, 100)],
    ['has no NAR', (record) => JSON.stringify({ ...record, nar: undefined })],
    ['has a path that is no store path', (record) => withInfo(record, { path: '/tmp/x' })],
    ['is of another path', (record) => withInfo(record, { path: bash.info.path })],
  ];

  for (const [what, damage] of damages) {
    it(`rejects its path, and no other, when it ${what}`, async () => {
      const { cache, upload } = await parkDamaged(damage);
      await cache.publish(await cache.stage([glibc]));
      const rejected = await cache.receipt(upload, hello.info);
      assert.equal(rejected?.code, 'failed');
      assert.match(rejected.message ?? '', /^pending\/.* is damaged/);
      assert.equal((await cache.receipt(upload, bash.info))?.status, 'published');
      assert.deepEqual(await listKeys(cache.private, 'pending/'), []);
      assert.deepEqual(await listKeys(cache.private, 'waiting/'), []);
    });
  }

  it('does not keep its path from being uploaded again', async () => {
    const { cache, upload } = await parkDamaged(() => '{}');
    await cache.sweep();
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
    await assert.rejects(cache.sweep(), { code: 'newer-version' });
    assert.equal((await cache.receipt(upload, hello.info))?.status, 'waiting');
  });
});

function withInfo(record: object, change: object): string {
  const { info } = record as { readonly info: object };
  return JSON.stringify({ ...record, info: { ...info, ...change } });
}
