import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { frameBytes } from '../../../../core/cache/zstd/frames.ts';
import { createNarStore } from '../../../../core/cache/nar/store.ts';
import type { NarStore } from '../../../../core/cache/nar/store.ts';
import type { Bucket } from '../../../../core/storage/bucket.ts';
import { NicheError } from '../../../../core/errors.ts';
import { listKeys, patternBytes, readObject } from '../../../support/assert/bytes.ts';
import { checkInvariants } from '../../../support/cache/invariants.ts';
import { createTestCache } from '../../../support/cache/kit.ts';
import { inventedPath, narHashOf, testPath } from '../../../support/cache/paths.ts';
import type { TestPath } from '../../../support/cache/paths.ts';
import { memoryBucket, memoryStore } from '../../../support/buckets/memory-bucket.ts';

const small = await testPath('small');
const large = await testPath('large', { contents: patternBytes(frameBytes + 1_000_000) });

async function* piecesOf(bytes: Uint8Array, size = 1_000_000): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) {
    yield await Promise.resolve(bytes.subarray(at, at + size));
  }
}

const open =
  ({ nar }: TestPath) =>
  () =>
    piecesOf(nar);
const mustNotOpen = (): never => assert.fail('the staged NAR was read');

function storeIn(bucket: Bucket, kind: 'zstd' | 'none' = 'zstd'): NarStore {
  const { config } = createTestCache({ config: { compression: { kind, level: 3 } } });
  return createNarStore({ bucket, config, parallelism: 2 });
}

describe('the NARs of a cache', () => {
  for (const kind of ['zstd', 'none'] as const) {
    for (const [size, path] of Object.entries({ small, large })) {
      it(`are stored once, and read back: ${size}, ${kind}`, async () => {
        const bucket = memoryBucket();
        const nars = storeIn(bucket, kind);
        const first = await nars.storeNar(path.info, open(path));
        const bytes = await readObject(bucket, first.url);
        assert.equal(first.compression, kind);
        assert.equal(first.fileSize, bytes?.length);
        assert.equal(first.fileHash, narHashOf(bytes!));
        assert.deepEqual(await nars.storeNar(path.info, open(path)), { ...first, isNew: false });
        assert.deepEqual(await nars.checkNar(path.info, first.url), { ...first, isNew: false });
        assert.deepEqual(await listKeys(bucket), [first.url]);
      });
    }
  }

  it('are listed unless the cache has no listings', async () => {
    for (const overrides of [{}, { listings: false }]) {
      const { config } = createTestCache({ config: overrides });
      const nars = createNarStore({ bucket: memoryBucket(), config, parallelism: 2 });
      const { listing } = await nars.storeNar(small.info, open(small));
      assert.equal(listing !== null, config.listings !== false);
    }
  });

  it('have one object for equal contents of different paths', async () => {
    const cache = createTestCache();
    const twin = { ...small, info: { ...small.info, path: inventedPath('twin') } };
    await cache.publish(await cache.stage([small, twin]));
    assert.equal((await listKeys(cache.public, 'nar/')).length, 1);
    const visible = await checkInvariants({ ...cache, publicKeys: cache.config.publicKeys });
    assert.equal(visible.size, 2);
  });

  it('are not stored twice when the storage fails to read one', async () => {
    const bucket = memoryBucket();
    const { url } = await storeIn(bucket).storeNar(small.info, open(small));
    async function* brokenOff(): AsyncGenerator<Uint8Array> {
      yield await Promise.resolve(Buffer.from([0x28]));
      throw new NicheError('storage-unavailable', 'the connection broke off');
    }
    const get: Bucket['get'] = async (key) => {
      const object = await bucket.get(key);
      return object && { ...object, body: brokenOff() };
    };
    await assert.rejects(storeIn({ ...bucket, get }).storeNar(small.info, open(small)), {
      code: 'storage-unavailable',
    });
    assert.deepEqual(await listKeys(bucket), [url]);
  });

  it('leave no object and no upload when they do not match their claim', async () => {
    const store = memoryStore();
    const bucket = memoryBucket({ store });
    // So large that it is uploaded while it is checked.
    const long = await testPath('long', { contents: patternBytes(2 * frameBytes + 1) });
    const lie = { ...long.info, narHash: small.info.narHash };
    await assert.rejects(storeIn(bucket).storeNar(lie, open(long)), { code: 'nar-hash-mismatch' });
    assert.equal(store.uploads.size, 0);
    assert.deepEqual(await listKeys(bucket), []);
  });

  it('are not compressed again when they are large and stored already', async () => {
    const bucket = memoryBucket();
    const nars = storeIn(bucket);
    const first = await nars.storeNar(large.info, open(large));
    assert.deepEqual(await nars.storeNar(large.info, mustNotOpen), { ...first, isNew: false });
  });

  for (const [size, path] of Object.entries({ small, large })) {
    it(`get another key when the object under theirs is damaged: ${size}`, async () => {
      const bucket = memoryBucket();
      const nars = storeIn(bucket);
      const { url } = await nars.storeNar(path.info, open(path));
      const good = (await readObject(bucket, url))!;
      for (const damaged of [
        good.subarray(0, -1),
        Buffer.concat([good, Buffer.from('more')]),
        Buffer.from('nonsense'),
        Buffer.alloc(0),
        Buffer.from(path.nar),
      ]) {
        await bucket.put(url, damaged);
        const beside = await nars.storeNar(path.info, open(path));
        assert.match(beside.url, /^nar\/\w{52}-[0-9a-f]{16}\.nar\.zst$/);
        assert.deepEqual(await readObject(bucket, beside.url), good);
        // Nobody ever deletes or replaces a NAR.
        assert.deepEqual(await readObject(bucket, url), damaged);
        await assert.rejects(nars.checkNar(path.info, url), { code: 'storage-integrity' });
      }
    });

    it(`are checked before anything is visible: ${size}`, async () => {
      const bucket = memoryBucket();
      const nars = storeIn(bucket);
      const cut = () => piecesOf(path.nar.subarray(0, -8));
      await assert.rejects(nars.storeNar(path.info, cut), { code: 'nar-size-mismatch' });
      const broken = async function* (): AsyncGenerator<Uint8Array> {
        yield* piecesOf(path.nar.subarray(0, -8));
        throw new Error('the source is gone');
      };
      await assert.rejects(nars.storeNar(path.info, broken), /the source is gone/);
      assert.deepEqual(await listKeys(bucket), []);
    });

    it(`may lose a race: ${size}`, async () => {
      const store = memoryStore();
      const rival = storeIn(memoryBucket({ store }));
      let isFirst = true;
      const late = memoryBucket({
        store,
        async before(operation) {
          if ((operation !== 'put' && operation !== 'commit') || !isFirst) return;
          isFirst = false;
          await rival.storeNar(path.info, open(path));
        },
      });
      const lost = await storeIn(late).storeNar(path.info, open(path));
      assert.deepEqual(await rival.storeNar(path.info, open(path)), lost);
      assert.equal(store.objects.size, 1);
    });
  }

  it('have random keys on storage without conditional uploads', async () => {
    const capabilities = {
      conditionalPut: true,
      conditionalComplete: false,
      conditionalReplace: true,
    };
    const bucket = memoryBucket({ capabilities });
    const nars = storeIn(bucket);
    const one = await nars.storeNar(large.info, open(large));
    const two = await nars.storeNar(large.info, open(large));
    assert.match(one.url, /-[0-9a-f]{16}\.nar\.zst$/);
    assert.notEqual(one.url, two.url);
  });

  it('have an error of their own when they are missing', async () => {
    const nars = storeIn(memoryBucket());
    await assert.rejects(nars.checkNar(small.info, 'nar/missing.nar'), {
      code: 'storage-integrity',
    });
  });
});
