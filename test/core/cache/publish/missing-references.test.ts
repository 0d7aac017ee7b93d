import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseNarInfoKey } from '../../../../core/cache/layout.ts';
import type { BatchId } from '../../../../core/cache/layout.ts';
import type { Publisher } from '../../../../core/cache/publish/publisher.ts';
import { sweep } from '../../../../core/cache/publish/sweep.ts';
import { createUpstreams } from '../../../../core/cache/upstreams.ts';
import { maxNamedMissing, maxReferences } from '../../../../core/limits.ts';
import { storeHash } from '../../../../core/nix/store-path.ts';
import { memoryBucket } from '../../../support/buckets/memory-bucket.ts';
import { createTestCache, dayMs, publicKeyOf, testKey } from '../../../support/cache/kit.ts';
import type { TestCache } from '../../../support/cache/kit.ts';
import { inventedPath, testPath } from '../../../support/cache/paths.ts';
import type { TestPath } from '../../../support/cache/paths.ts';

const hourMs = 3_600_000;
const none = { compression: { kind: 'none', level: 3 } };
/** Lookups that may be in flight when enough is known. */
const lookupsInFlight = 15;
/** Paths of one upload that a sweep resumes in vain. */
const maxVainPerUpload = 100;

interface CountingCache {
  readonly cache: TestCache;
  /** Returns a publisher whose lookups in the cache are counted. */
  readonly publisher: () => Publisher;
  /** Returns the narinfos requested from the cache and from the upstream, and counts from zero. */
  readonly takeCounts: () => { readonly here: number; readonly upstream: number };
}

/** Creates a cache with an upstream that has nothing. */
function createCountingCache(): CountingCache {
  let here = 0;
  let upstream = 0;
  const isLookup = (operation: string, key: string): boolean =>
    operation === 'get' && parseNarInfoKey(key) !== null;
  const reader = memoryBucket({
    url: 'memory:///upstream',
    before: (operation, key) => {
      if (isLookup(operation, key)) upstream += 1;
    },
  });
  const publicKey = publicKeyOf(testKey('upstream-1', 7));
  const upstreams = createUpstreams([{ reader, publicKey }], '/nix/store');
  const cache = createTestCache({ config: none, upstreams });
  return {
    cache,
    publisher: () =>
      cache.publisher({
        hooks: {
          before(operation, key) {
            if (isLookup(operation, key)) here += 1;
          },
        },
      }),
    takeCounts() {
      const counts = { here, upstream };
      here = 0;
      upstream = 0;
      return counts;
    },
  };
}

const missingPaths = (count: number, name = 'missing'): string[] =>
  Array.from({ length: count }, (_, n) => inventedPath(`${name}-${n}`));

describe('a path with 10,000 missing references', async () => {
  it('are not all looked for again at each wake-up', async () => {
    const { cache, publisher, takeCounts } = createCountingCache();
    const names = Array.from({ length: 120 }, (_, number) => `reference-${number}`);
    const references = await Promise.all(names.map((name) => testPath(name)));
    references.sort((one, other) => (one.info.path < other.info.path ? -1 : 1));
    const app = await testPath('app', { references });
    const id = await cache.stage([app]);
    await cache.publish(id, publisher());
    takeCounts();
    // Each one is the reference that the path waits for. No publisher remembers what others found.
    for (const reference of references) {
      await cache.publish(await cache.stage([reference]), publisher());
    }
    assert.equal((await cache.receipt(id.upload, app.info))?.status, 'published');
    const perWake = lookupsInFlight + 3;
    const last = 2 * references.length;
    assert.ok(takeCounts().here <= references.length * perWake + last);
  });

  const references = missingPaths(maxReferences);
  const greedy = await testPath('greedy', { references });
  const inOrder = greedy.info.references;

  it('costs few lookups: as many as its receipt lists', async () => {
    const { cache, publisher, takeCounts } = createCountingCache();
    const id = await cache.stage([greedy]);
    await cache.publish(id, publisher());
    const receipt = await cache.receipt(id.upload, greedy.info);
    assert.deepEqual(receipt?.missing, inOrder.slice(0, maxNamedMissing));
    const { here, upstream } = takeCounts();
    // Once to sign the batch together, once for the receipt, and again after the marker is written.
    const most = 1 + lookupsInFlight + maxNamedMissing + lookupsInFlight + 1;
    assert.ok(here <= most, `${here} lookups`);
    // Its own path is looked up too, before it is stored and once it is parked.
    assert.ok(upstream <= most + 2, `${upstream} lookups upstream`);
  });

  it('costs one lookup in a sweep, and as many as a receipt lists when it expires', async () => {
    const { cache, publisher, takeCounts } = createCountingCache();
    const id = await cache.stage([greedy]);
    await cache.publish(id, publisher());
    takeCounts();
    for (let n = 0; n < 3; n += 1) {
      await cache.sweep(publisher());
      assert.deepEqual(takeCounts(), { here: 1, upstream: 1 });
    }
    cache.advance(7 * dayMs);
    await cache.sweep(publisher());
    const { here, upstream } = takeCounts();
    const most = 1 + maxNamedMissing + lookupsInFlight;
    assert.ok(here <= most && upstream <= most, `${here} lookups, ${upstream} upstream`);
    const receipt = await cache.receipt(id.upload, greedy.info);
    assert.equal(receipt?.code, 'missing-references');
    assert.deepEqual(receipt.missing, inOrder.slice(0, maxNamedMissing));
  });

  it('costs a few lookups when it is woken by one of them', async () => {
    const { cache, publisher, takeCounts } = createCountingCache();
    const [first] = inOrder;
    const name = references.find((path) => path === first)?.replace(/^.{44}/, '') ?? '';
    const id = await cache.stage([greedy]);
    await cache.publish(id);
    const awaited = await testPath(name);
    assert.equal(awaited.info.path, first);
    await cache.publisher().publishBatch(await cache.stage([awaited]));
    takeCounts();
    const [waiting = assert.fail()] = cache.wakes.splice(0);
    const resumed = await publisher().resumePath(waiting);
    assert.deepEqual(resumed?.outcome.missing, [inOrder[1]]);
    // The conflict check twice, the first references, and the new one again.
    assert.ok(takeCounts().here <= 2 + 2 + lookupsInFlight + 1);
  });

  it('does not keep the rest of its batch from being published together', async () => {
    const { cache, publisher } = createCountingCache();
    const glibc = await testPath('glibc');
    const hello = await testPath('hello', { references: [glibc] });
    const id = await cache.stage([greedy, glibc, hello]);
    const results = await cache.publish(id, publisher());
    assert.deepEqual(
      results.map(({ outcome }) => outcome.status),
      ['waiting', 'published', 'published'],
    );
  });
});

describe('an upload whose paths wait for ever', async () => {
  const paths = await Promise.all(
    missingPaths(300).map((path, n) => testPath(`hostile-${n}`, { references: [path] })),
  );
  const glibc = await testPath('glibc');
  const hello = await testPath('hello', { references: [glibc] });

  async function park(cache: TestCache, some: readonly TestPath[]): Promise<string> {
    const upload = cache.newUpload();
    for (let batch = 0; batch * 256 < some.length; batch += 1) {
      const id: BatchId = { upload, batch };
      await cache.publish(await cache.stage(some.slice(batch * 256, (batch + 1) * 256), { id }));
    }
    return upload;
  }

  /** Sweeps, and returns the resumed paths as `<upload>/<store hash>`, in order. */
  async function sweepWith(
    cache: TestCache,
    publisher: Publisher,
    random: number,
    mostResumed = Infinity,
  ): Promise<string[]> {
    const resumed: string[] = [];
    const enough = new AbortController();
    await sweep({
      ...cache,
      publisher: {
        ...publisher,
        resumePath(waiting, options) {
          resumed.push(`${waiting.upload}/${waiting.storeHash}`);
          if (resumed.length === mostResumed) enough.abort();
          return publisher.resumePath(waiting, options);
        },
      },
      waitingDays: 7,
      staleMs: hourMs,
      signal: enough.signal,
      random: () => random,
    });
    return resumed;
  }

  it('costs a bounded number of lookups in each sweep, and each path gets its turn', async () => {
    const { cache, publisher, takeCounts } = createCountingCache();
    await park(cache, paths);
    takeCounts();
    const resumed = new Set<string>();
    for (const random of [0, 0.334, 0.667]) {
      for (const id of await sweepWith(cache, publisher(), random)) resumed.add(id);
      const { here, upstream } = takeCounts();
      assert.deepEqual([here, upstream], [maxVainPerUpload, maxVainPerUpload]);
    }
    assert.equal(resumed.size, paths.length);
  });

  it('delays another upload by one path at most', async () => {
    for (const random of [0, 0.99]) {
      const { cache, publisher } = createCountingCache();
      await park(cache, paths);
      const honest = await park(cache, [hello]);
      // Published by a process whose wake-ups are lost.
      await cache.publisher().publishBatch(await cache.stage([glibc]));
      cache.wakes.length = 0;
      const resumed = await sweepWith(cache, publisher(), random, 2);
      assert.ok(resumed.includes(`${honest}/${storeHash(hello.info.path)}`));
      assert.equal((await cache.receipt(honest, hello.info))?.status, 'published');
    }
  });

  it('costs one lookup for all paths that wait for the same reference', async () => {
    const { cache, publisher, takeCounts } = createCountingCache();
    const same = await Promise.all(
      Array.from({ length: 200 }, (_, n) => testPath(`same-${n}`, { references: [glibc] })),
    );
    const upload = await park(cache, same);
    takeCounts();
    assert.equal((await sweepWith(cache, publisher(), 0)).length, 1);
    assert.deepEqual(takeCounts(), { here: 1, upstream: 1 });
    await cache.publisher().publishBatch(await cache.stage([glibc]));
    cache.wakes.length = 0;
    // Paths that a sweep publishes are not in vain.
    assert.equal((await sweepWith(cache, publisher(), 0)).length, same.length);
    assert.equal((await cache.receipt(upload, same[199]!.info))?.status, 'published');
  });

  it('does not delay stale batches of another upload', async () => {
    const cache = createTestCache({ config: none });
    const upload = cache.newUpload();
    for (let batch = 0; batch < 20; batch += 1) {
      await cache.stage([paths[batch]!], { id: { upload, batch } });
    }
    const honest = await cache.stage([glibc]);
    cache.advance(hourMs);
    const published: string[] = [];
    const publisher = cache.publisher();
    await sweep({
      ...cache,
      publisher: {
        ...publisher,
        publishBatch(id) {
          published.push(`${id.upload}/${id.batch}`);
          return publisher.publishBatch(id);
        },
      },
      waitingDays: 7,
      staleMs: hourMs,
      random: () => 0,
    });
    assert.deepEqual(published.slice(0, 3), [`${upload}/0`, `${honest.upload}/0`, `${upload}/1`]);
    assert.equal(published.length, 21);
  });
});
