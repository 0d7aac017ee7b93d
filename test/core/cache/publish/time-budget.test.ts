import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { maxBytesWithin } from '../../../../core/cache/publish/time-budget.ts';
import { manifestKey, narInfoKey } from '../../../../core/cache/layout.ts';
import { writeReceipt } from '../../../../core/cache/receipts/receipts.ts';
import { storeHash } from '../../../../core/nix/store-path.ts';
import { listKeys } from '../../../support/assert/bytes.ts';
import { checkInvariants } from '../../../support/cache/invariants.ts';
import { leftPrefixes, auditRecords, createTestCache } from '../../../support/cache/kit.ts';
import { testPath } from '../../../support/cache/paths.ts';

describe('a publisher with a time limit', () => {
  it('rejects a NAR too large for the whole time limit before reading it', async () => {
    const cache = createTestCache();
    const path = await testPath('large', { contents: 'x'.repeat(1000) });
    const id = await cache.stageRaw(
      JSON.stringify({ version: 1, encoding: 'none', paths: [claim(path)] }),
      null,
    );
    const publisher = cache.publisher({ timeLimitMs: 10_000, bytesPerSecond: 100 });
    const [published] = await publisher.publishBatch(id);
    assert.equal(published?.outcome.code, 'too-large');
    assert.match(published.outcome.message ?? '', /at most 800 bytes/);
    assert.equal(maxBytesWithin(10_000, 100), 800);
    assert.equal(maxBytesWithin(10_000, Infinity), Infinity);
  });

  it('stops before the first path that it has no time for, and continues there', async () => {
    const cache = createTestCache();
    const first = await testPath('first');
    const second = await testPath('second', { references: [first] });
    const third = await testPath('third', { references: [second] });
    const id = await cache.stage([first, second, third]);
    const limited = (): ReturnType<typeof cache.publisher> =>
      cache.publisher({ timeLimitMs: 10_000, bytesPerSecond: 1000 });
    for (let calls = 0; calls < 2; calls += 1) {
      let leftMs = 10_000;
      const timeLeftMs = (): number => (leftMs -= 9_000);
      await assert.rejects(limited().publishBatch(id, { timeLeftMs }), { code: 'out-of-time' });
      // Running out of time is no crash: the batch's paths are not isolated afterwards.
      const attempts = await listKeys(cache.private, 'attempts/');
      assert.deepEqual(
        attempts.filter((key) => !key.includes('/finished.')),
        [],
      );
      cache.advance(60_000);
    }
    const results = await limited().publishBatch(id);
    assert.deepEqual(
      results.map(({ outcome }) => outcome.status),
      ['exists', 'exists', 'published'],
    );
    await checkInvariants({ ...cache, publicKeys: cache.config.publicKeys });
  });

  it('publishes a path although a client wrote a receipt for it', async () => {
    const cache = createTestCache();
    const contents = 'x'.repeat(5000);
    const paths = await Promise.all(
      ['one', 'two', 'three'].map((name) => testPath(name, { contents })),
    );
    const id = await cache.stage(paths);
    for (const { info } of paths) {
      await writeReceipt(cache.staging, id.upload, storeHash(info.path), {
        path: info.path,
        status: 'published',
        at: cache.now().toISOString(),
      });
    }
    const publisher = cache.publisher({ timeLimitMs: 10_000, bytesPerSecond: 1000 });
    const timeLeftMs = (): number => 10_000;
    for (let calls = 1; calls < paths.length; calls += 1) {
      await assert.rejects(publisher.publishBatch(id, { timeLeftMs }), { code: 'out-of-time' });
    }
    await publisher.publishBatch(id, { timeLeftMs });
    for (const { info } of paths) {
      assert.ok(await cache.public.head(narInfoKey(storeHash(info.path))), info.path);
    }
    assert.deepEqual(await leftPrefixes(cache), ['audit', 'receipts']);
  });

  it('reaches a path that needs nearly the whole limit', async () => {
    const cache = createTestCache();
    const there = await testPath('there');
    const waits = await testPath('waits', { references: [await testPath('absent')] });
    const large = await testPath('large', { contents: 'x'.repeat(7760) });
    const larger = await testPath('larger', { contents: 'x'.repeat(7800) });
    const publisher = cache.publisher({ timeLimitMs: 10_000, bytesPerSecond: 1000 });
    await cache.publish(await cache.stage([there]), publisher);
    const id = await cache.stage([there, waits, large, larger]);
    const handled: string[][] = [];
    for (let calls = 0; calls < 5; calls += 1) {
      try {
        const results = await publisher.publishBatch(id, { timeLeftMs: () => 10_000 });
        handled.push(results.map(({ outcome }) => outcome.status));
        break;
      } catch (error) {
        assert.equal((error as { code?: string }).code, 'out-of-time');
        handled.push([]);
        cache.advance(60_000);
      }
    }
    assert.deepEqual(handled, [[], [], ['published']]);
    assert.deepEqual(await listKeys(cache.staging, 'staging/'), []);
    for (const { info } of [large, larger]) {
      assert.ok(await cache.public.head(narInfoKey(storeHash(info.path))), info.path);
    }
    await checkInvariants({ ...cache, publicKeys: cache.config.publicKeys });
  });
});

describe('the origin of a batch', () => {
  it('is in the audit log, even for a path that waited', async () => {
    const cache = createTestCache();
    const library = await testPath('library');
    const tool = await testPath('tool', { references: [library] });
    const origin = {
      via: 'event',
      principal: 'AWS:AROAEXAMPLE:ci',
      sourceAddress: '192.0.2.7',
      at: '2026-01-01T00:00:00.000Z',
    } as const;
    const publisher = cache.publisher();
    const id = await cache.stage([tool]);
    const { etag } = (await cache.staging.head(manifestKey(id))) ?? {};
    await publisher.publishBatch(id, { origin: { ...origin, etag } });
    await cache.publish(await cache.stage([library]), publisher);
    assert.deepEqual(
      (await auditRecords(cache)).map((record) => record.origin),
      [null, origin],
    );
  });
});

function claim({ info }: Awaited<ReturnType<typeof testPath>>): object {
  const { path, narHash, narSize, references } = info;
  return { path, narHash, narSize, references, deriver: null, ca: null, signatures: [] };
}
