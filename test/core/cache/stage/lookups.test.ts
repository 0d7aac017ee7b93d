import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { deniedAsMissing } from '../../../../core/cache/denied-as-missing.ts';
import { createKnownPaths } from '../../../../core/cache/local/known-paths.ts';
import type { KnownPaths } from '../../../../core/cache/local/known-paths.ts';
import { openLocalDatabase } from '../../../../core/cache/local/database.ts';
import { createLookups } from '../../../../core/cache/stage/lookups.ts';
import type { Lookups } from '../../../../core/cache/stage/lookups.ts';
import { readText } from '../../../../core/cache/objects.ts';
import { NicheError } from '../../../../core/errors.ts';
import type { NicheErrorCode } from '../../../../core/errors.ts';
import { formatNarInfo, parseNarInfo } from '../../../../core/nix/narinfo.ts';
import type { Bucket } from '../../../../core/storage/bucket.ts';
import {
  localTestPath,
  makeBucketCache,
  testPublicKey,
} from '../../../support/cache/bucket-cache.ts';
import type { BucketCache, LocalTestPath } from '../../../support/cache/bucket-cache.ts';
import { inventedPath } from '../../../support/cache/paths.ts';
import { memoryBucket } from '../../../support/buckets/memory-bucket.ts';
import type { BucketOperation } from '../../../support/buckets/memory-bucket.ts';

interface Counted {
  readonly bucket: Bucket;
  readonly cache: BucketCache;
  /** Returns the requests since the last call. */
  take(): Partial<Record<BucketOperation, number>>;
  /** Denies this operation from now on. */
  deny(operation: BucketOperation): void;
}

async function countedCache(url?: string): Promise<Counted> {
  let requests: Partial<Record<BucketOperation, number>> = {};
  const denied = new Set<BucketOperation>();
  const bucket = memoryBucket({
    url,
    before(operation, key) {
      requests[operation] = (requests[operation] ?? 0) + 1;
      if (denied.has(operation) && key !== 'nix-cache-info') {
        throw new NicheError('storage-denied', 'denied');
      }
    },
  });
  const cache = await makeBucketCache(bucket);
  return {
    bucket,
    cache,
    deny: (operation) => denied.add(operation),
    take() {
      const taken = requests;
      requests = {};
      return taken;
    },
  };
}

const memory = async (): Promise<KnownPaths> => createKnownPaths(await openLocalDatabase(null));

const lookupsOf = ({ cache }: Counted, known: KnownPaths): Lookups =>
  createLookups({ ...cache, public: deniedAsMissing(cache.public), reader: cache.public }, known);

const paths = (count: number): Promise<LocalTestPath[]> =>
  Promise.all(Array.from({ length: count }, (_, number) => localTestPath(`path-${number}`)));

const infosOf = (some: readonly LocalTestPath[]) => some.map(({ info }) => info);

describe('finding the paths that a cache lacks', () => {
  test('2,000 paths cost one page in an empty bucket', async () => {
    const counted = await countedCache();
    const infos = infosOf(await paths(2000));
    const lookups = lookupsOf(counted, await memory());
    counted.take();
    assert.ok((await lookups.findPaths(infos)).every((place) => place === null));
    assert.deepEqual(counted.take(), { list: 1 });
    assert.deepEqual(lookups.counts(), { known: 0, lookups: 0, listings: 1, upstream: 0 });
    assert.ok((await lookups.findPaths(infos)).every((place) => place === null));
    assert.deepEqual(counted.take(), { list: 1 }, 'what is missing is asked for again');
  });

  test('2,000 present paths cost one request each, and none the next time', async () => {
    const counted = await countedCache();
    const all = await paths(2000);
    for (let start = 0; start < all.length; start += 250) {
      await counted.cache.publish(...all.slice(start, start + 250));
    }
    const known = await memory();
    const first = lookupsOf(counted, known);
    counted.take();
    assert.ok((await first.findPaths(infosOf(all))).every((place) => place === 'present'));
    assert.deepEqual(counted.take(), { list: 1, get: 2000 });
    const second = lookupsOf(counted, known);
    assert.ok((await second.findPaths(infosOf(all))).every((place) => place === 'present'));
    assert.deepEqual(counted.take(), {});
    assert.deepEqual(second.counts(), { known: 2000, lookups: 0, listings: 0, upstream: 0 });
    known.forgetPaths(all.slice(0, 3).map(({ path }) => path));
    await lookupsOf(counted, known).findPaths(infosOf(all));
    assert.deepEqual(counted.take(), { get: 3 });
  });

  test('a much larger cache is not listed completely', async () => {
    const counted = await countedCache();
    for (let number = 0; number < 5000; number += 1) {
      await counted.bucket.put(`nar/${String(number).padStart(52, '0')}.nar.zst`, Buffer.alloc(1));
      await counted.bucket.put(`${inventedHash(number)}.narinfo`, Buffer.alloc(1));
    }
    const infos = infosOf(await paths(300));
    const lookups = lookupsOf(counted, await memory());
    counted.take();
    assert.ok((await lookups.findPaths(infos)).every((place) => place === null));
    const { listings, lookups: asked } = lookups.counts();
    assert.equal(listings, 3);
    // Paths covered by the pages needed no request.
    assert.ok(asked > 0 && asked < 300, `${asked} look-ups`);
    assert.equal(counted.take().get, asked);
  });

  test('few paths are requested one by one, and so are those in a directory', async () => {
    for (const [url, count] of [
      [undefined, 99],
      ['file:///srv/cache', 500],
    ] as const) {
      const counted = await countedCache(url);
      const infos = infosOf(await paths(count));
      counted.take();
      await lookupsOf(counted, await memory()).findPaths(infos);
      assert.deepEqual(counted.take(), { get: count });
    }
  });

  test('without the right to list, each path is requested', async () => {
    const counted = await countedCache();
    counted.deny('list');
    const lookups = lookupsOf(counted, await memory());
    counted.take();
    await lookups.findPaths(infosOf(await paths(200)));
    assert.deepEqual(counted.take(), { list: 1, get: 200 });
    assert.deepEqual(lookups.counts(), { known: 0, lookups: 200, listings: 1, upstream: 0 });
  });

  test('denied means missing once nix-cache-info is readable, and only then', async () => {
    const counted = await countedCache();
    counted.deny('get');
    counted.deny('list');
    const infos = infosOf(await paths(150));
    counted.take();
    assert.ok(
      (await lookupsOf(counted, await memory()).findPaths(infos)).every((it) => it === null),
    );
    const { head = 0, ...requests } = counted.take();
    assert.deepEqual(requests, { list: 1, get: 150 });
    // Lookups in flight together share a request for nix-cache-info.
    assert.ok(head <= 10, `${head} looks at nix-cache-info`);
    await counted.bucket.delete(['nix-cache-info']);
    await assert.rejects(lookupsOf(counted, await memory()).findPaths(infos), {
      code: 'storage-denied',
    });
  });

  test('other contents under the same path are a conflict, cached or not', async () => {
    const counted = await countedCache();
    const [path] = await paths(1);
    await counted.cache.publish(path!);
    const known = await memory();
    const other = { ...path!.info, references: [inventedPath('x')] };
    const found = await lookupsOf(counted, known).findPaths([path!.info, other]);
    assert.deepEqual(found, ['present', 'conflict']);
    assert.deepEqual(await lookupsOf(counted, known).findPaths([other, path!.info]), [
      'conflict',
      'present',
    ]);
  });

  test('failures are thrown', async () => {
    const bucket = memoryBucket();
    const cache = await makeBucketCache(bucket);
    const failing: Bucket = {
      ...bucket,
      get: () => Promise.reject(new NicheError('storage-unavailable', 'down')),
    };
    const lookups = createLookups({ ...cache, public: failing, reader: failing }, await memory());
    await assert.rejects(lookups.findPaths(infosOf(await paths(1))), {
      code: 'storage-unavailable',
    });
  });
});

function inventedHash(number: number): string {
  return inventedPath(`other-${number}`).slice('/nix/store/'.length).slice(0, 32);
}

test('an unusable narinfo of an upstream does not keep a path from being uploaded', async () => {
  const [path = assert.fail()] = await paths(1);
  const upstream = memoryBucket({ url: 'memory:///upstream' });
  await upstream.put(`${path.hash}.narinfo`, Buffer.from('<html>'));
  const open = { reader: upstream, publicKey: testPublicKey, url: 'https://up.example' };
  const cache = await makeBucketCache(memoryBucket(), { upstreams: [open] });
  const lookups = createLookups({ ...cache, reader: cache.public }, await memory());
  assert.deepEqual(await lookups.findPaths([path.info]), [null]);
  assert.equal(lookups.counts().upstream, 1);
});

test('an upstream that is down counts as one without the path, but a denied one does not', async () => {
  const [mine = assert.fail(), theirs = assert.fail()] = await paths(2);
  const healthy = await makeBucketCache(memoryBucket({ url: 'memory:///healthy' }));
  await healthy.publish(theirs);
  let code: NicheErrorCode = 'storage-unavailable';
  const down = memoryBucket({
    url: 'memory:///down',
    before() {
      throw new NicheError(code, 'failed');
    },
  });
  const upstreams = [
    { reader: down, publicKey: testPublicKey, url: 'https://down.example' },
    { reader: healthy.public, publicKey: testPublicKey, url: 'https://healthy.example' },
  ];
  const cache = await makeBucketCache(memoryBucket(), { upstreams });
  const lookups = createLookups({ ...cache, reader: cache.public }, await memory());
  assert.deepEqual(await lookups.findPaths([mine.info, theirs.info]), [null, 'upstream']);
  await assert.rejects(cache.publish(mine), { code: 'upstream-unavailable' });
  code = 'storage-denied';
  await assert.rejects(lookups.findPaths([mine.info]), { code: 'upstream-unavailable' });
});

test('a narinfo without a valid signature of the cache does not count', async () => {
  const counted = await countedCache();
  const [path = assert.fail(), other = assert.fail()] = await paths(2);
  await counted.cache.publish(path, other);
  const narInfo = async (key: string) => parseNarInfo((await readText(counted.bucket, key)) ?? '');
  const key = `${path.hash}.narinfo`;
  const signed = await narInfo(key);
  const borrowed = (await narInfo(`${other.hash}.narinfo`)).signatures;
  for (const signatures of [[], borrowed]) {
    await counted.bucket.put(key, Buffer.from(formatNarInfo({ ...signed, signatures })));
    const other = { ...path.info, references: [inventedPath('x')] };
    const found = await lookupsOf(counted, await memory()).findPaths([path.info, other]);
    assert.deepEqual(found, [null, null]);
  }
});
