import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import {
  blockedKey,
  blockedPrefix,
  logKey,
  pendingPrefix,
  waitingPrefix,
} from '../../../../core/cache/layout.ts';
import { formatRealisationManifest } from '../../../../core/cache/manifest.ts';
import { readRealisation } from '../../../../core/cache/read-realisation.ts';
import { createUpstreams } from '../../../../core/cache/upstreams.ts';
import { blockPath } from '../../../../core/cache/withdraw/block.ts';
import { withdrawRefused } from '../../../../core/cache/withdraw/withdraw.ts';
import { NicheError } from '../../../../core/errors.ts';
import { parsePublicKey } from '../../../../core/nix/keys.ts';
import { realisationLayouts, realisationName } from '../../../../core/nix/realisation.ts';
import type { Realisation } from '../../../../core/nix/realisation.ts';
import { storeHash } from '../../../../core/nix/store-path.ts';
import { listKeys, readObject } from '../../../support/assert/bytes.ts';
import { auditRecords, createTestCache, dayMs, leftPrefixes } from '../../../support/cache/kit.ts';
import type { TestCache, TestCacheOptions } from '../../../support/cache/kit.ts';
import { inventedPath, testPath } from '../../../support/cache/paths.ts';

const out = await testPath('a');
const other = await testPath('a', { contents: 'other' });
const otherPath = {
  ...other,
  info: { ...other.info, path: inventedPath('x').replace(/-x$/, '-a') },
};

const realisation: Realisation = {
  drvHash: `sha256:${'ab'.repeat(32)}`,
  drvPath: inventedPath('a.drv'),
  output: 'out',
  outPath: out.info.path,
};
const name = realisationName(realisation);
const keys = realisationLayouts.map(({ keyOf }) => keyOf(realisation));

async function stage(cache: TestCache, ...realisations: Realisation[]) {
  return cache.stageRaw(formatRealisationManifest(realisations), null);
}

/** Returns the outputs that readers who trust the cache's key see, in each layout. */
async function seen(cache: TestCache): Promise<(string | null)[]> {
  const trusted = {
    storeDir: '/nix/store',
    publicKeys: cache.config.publicKeys.map(parsePublicKey),
  };
  return Promise.all(
    keys.map(async (key) => {
      const found = await readRealisation(cache.public, key, trusted);
      return found.kind === 'found' ? found.value.outPath : null;
    }),
  );
}

async function published(options?: TestCacheOptions): Promise<TestCache> {
  const cache = createTestCache(options);
  await cache.publish(await cache.stage([out]));
  return cache;
}

test('a realisation of a published output is signed in both layouts and audited', async () => {
  const cache = await published();
  const id = await stage(cache, realisation);
  const results = await cache.publish(id);
  assert.deepEqual(
    results.map(({ path, outcome }) => [path, outcome.status]),
    [[name, 'published']],
  );
  assert.deepEqual(await seen(cache), [out.info.path, out.info.path]);
  assert.equal((await cache.receipt(id.upload, { path: name }))?.status, 'published');
  const [record] = (await auditRecords(cache)).filter((each) => each.realisation);
  assert.deepEqual(record?.realisation, {
    drvHash: realisation.drvHash,
    drvPath: realisation.drvPath,
    output: 'out',
  });
  assert.equal(record.path, out.info.path);
  assert.equal(record.signatures.length, 2);
  assert.deepEqual(await listKeys(cache.staging, 'staging/'), []);
  assert.deepEqual((await leftPrefixes(cache)).sort(), ['audit', 'realised', 'receipts']);
  // A repeated event, and another upload.
  assert.deepEqual(await cache.publish(id), []);
  const [again] = await cache.publish(await stage(cache, realisation));
  assert.equal(again?.outcome.status, 'exists');
});

test('the log of a resolved derivation is there for the derivation before, and is withdrawn with it', async () => {
  const cache = createTestCache();
  const deriver = inventedPath('resolved').replace(/-resolved$/, '-a.drv');
  const log = Buffer.from('the log');
  const built = { ...out, info: { ...out.info, deriver } };
  await cache.publish(await cache.stage([built]));
  await cache.public.put(logKey(deriver.slice('/nix/store/'.length)), log);
  const resolved = { ...realisation, drvHash: `sha256:${'cd'.repeat(32)}`, drvPath: deriver };
  await cache.publish(await stage(cache, realisation, resolved));
  const key = logKey(realisation.drvPath.slice('/nix/store/'.length));
  assert.deepEqual(await readObject(cache.public, key), log);

  await blockPath(cache, storeHash(out.info.path), { at: '2026-01-01T00:00:00.000Z', why: 'test' });
  assert.deepEqual(await listKeys(cache.public, 'log/'), []);
});

test('a realisation waits until its output is visible', async () => {
  const cache = createTestCache();
  const id = await stage(cache, realisation);
  const [first] = await cache.publish(id);
  assert.deepEqual([first?.outcome.status, first?.outcome.missing], ['waiting', [out.info.path]]);
  assert.deepEqual(await seen(cache), [null, null]);
  // Events come again, and a sweep.
  await cache.publish(id);
  assert.deepEqual((await cache.sweep()).published, []);
  const results = await cache.publish(await cache.stage([out]));
  assert.deepEqual(
    results.map(({ path, outcome }) => [path, outcome.status]),
    [
      [out.info.path, 'published'],
      [name, 'published'],
    ],
  );
  assert.deepEqual(await seen(cache), [out.info.path, out.info.path]);
  assert.deepEqual(await listKeys(cache.private, pendingPrefix), []);
  assert.deepEqual(await listKeys(cache.private, waitingPrefix), []);
  assert.equal((await cache.receipt(id.upload, { path: name }))?.status, 'published');
});

test('a lost wake-up is repaired by a sweep, and a realisation expires', async () => {
  const cache = createTestCache();
  await cache.publish(await stage(cache, realisation));
  await cache.publisher().publishBatch(await cache.stage([out]));
  cache.wakes.length = 0;
  assert.deepEqual(
    (await cache.sweep()).published.map(({ path }) => path),
    [name],
  );
  assert.deepEqual(await seen(cache), [out.info.path, out.info.path]);

  const late = createTestCache();
  const id = await stage(late, realisation);
  await late.publish(id);
  late.advance(8 * dayMs);
  const [expired] = (await late.sweep()).published;
  assert.deepEqual([expired?.path, expired?.outcome.code], [name, 'missing-references']);
  assert.deepEqual(await leftPrefixes(late), ['receipts']);
});

describe('the first realisation stays', () => {
  test('another output of the same derivation is a conflict', async () => {
    const cache = await published();
    await cache.publish(await cache.stage([otherPath]));
    await cache.publish(await stage(cache, realisation));
    const [result] = await cache.publish(
      await stage(cache, { ...realisation, outPath: otherPath.info.path }),
    );
    assert.equal(result?.outcome.code, 'conflict');
    assert.match(result.outcome.message ?? '', /this cache has another output of/);
    assert.deepEqual(await seen(cache), [out.info.path, out.info.path]);
  });

  test('one whose output is absent is replaced', async () => {
    const cache = await published();
    await cache.publish(await stage(cache, realisation));
    await cache.public.delete([`${storeHash(out.info.path)}.narinfo`]);
    await cache.publish(await cache.stage([otherPath]));
    const moved = { ...realisation, outPath: otherPath.info.path };
    const [result] = await cache.publish(await stage(cache, moved));
    assert.equal(result?.outcome.status, 'published');
    assert.deepEqual(await seen(cache), [moved.outPath, moved.outPath]);
  });

  test('one without a signature of the cache does not count, nor a damaged one', async () => {
    const cache = await published();
    const [first = '', second = ''] = keys;
    await cache.public.put(first, Buffer.from(`{"outPath":"${'a'.repeat(32)}-a","signatures":[]}`));
    await cache.public.put(second, Buffer.from('damage'));
    const [result] = await cache.publish(await stage(cache, realisation));
    assert.equal(result?.outcome.status, 'published');
    assert.deepEqual(await seen(cache), [out.info.path, out.info.path]);
  });

  test('one of no use that the publisher may not replace is a conflict', async () => {
    const cache = await published();
    const [first = ''] = keys;
    await cache.public.put(first, Buffer.from('damage'));
    const denied = new NicheError('storage-denied', 'no right to replace');
    const publisher = cache.publisher({
      hooks: {
        before: (operation) => (operation === 'replace' ? Promise.reject(denied) : undefined),
      },
    });
    const [result] = await cache.publish(await stage(cache, realisation), publisher);
    assert.deepEqual([result?.outcome.status, result?.outcome.code], ['rejected', 'conflict']);
    assert.match(result?.outcome.message ?? '', /cannot be replaced: no right/);
  });

  test('an upstream is asked too', async () => {
    const upstream = await published();
    await upstream.publish(await stage(upstream, realisation));
    const reads = { reader: upstream.public, publicKey: upstream.config.publicKeys[0] ?? '' };
    const cache = createTestCache({ upstreams: createUpstreams([reads], '/nix/store') });
    const [same] = await cache.publish(await stage(cache, realisation));
    assert.equal(same?.outcome.status, 'exists');
    assert.deepEqual(await listKeys(cache.public), []);
    await cache.publish(await cache.stage([otherPath]));
    const moved = { ...realisation, outPath: otherPath.info.path };
    const [result] = await cache.publish(await stage(cache, moved));
    assert.equal(result?.outcome.code, 'upstream-conflict');
  });
});

describe('a blocked output', () => {
  const record = { at: '2026-01-01T00:00:00.000Z', why: 'test', path: out.info.path };

  test('takes its realisations with it', async () => {
    const cache = await published();
    await cache.publish(await stage(cache, realisation));
    await blockPath(cache, storeHash(out.info.path), record);
    assert.deepEqual(await listKeys(cache.public), [`nar/${out.info.narHash.slice(7)}.nar.zst`]);
    assert.deepEqual(await leftPrefixes(cache), ['audit', 'blocked', 'receipts']);
    const [result] = await cache.publish(await stage(cache, realisation));
    assert.equal(result?.outcome.code, 'blocked');
  });

  test('that is blocked while its realisation is published is withdrawn afterwards', async () => {
    const cache = await published();
    const hash = storeHash(out.info.path);
    const publisher = cache.publisher({
      hooks: {
        before: async (operation, key) => {
          if (operation !== 'put' || key !== keys[0]) return;
          await cache.private.put(blockedKey(hash), Buffer.from(JSON.stringify(record)));
        },
      },
    });
    const [result] = await cache.publish(await stage(cache, realisation), publisher);
    assert.equal(result?.outcome.code, 'blocked');
    assert.deepEqual(cache.withdrawals, [hash]);
    await withdrawRefused(cache, hash);
    assert.deepEqual(await seen(cache), [null, null]);
    assert.deepEqual(await listKeys(cache.private, blockedPrefix), [blockedKey(hash)]);
  });

  test('whose publisher crashed after it created the realisation is withdrawn by a sweep', async () => {
    const cache = await published();
    await cache.publish(await stage(cache, realisation));
    const hash = storeHash(out.info.path);
    await cache.private.put(blockedKey(hash), Buffer.from(JSON.stringify(record)));
    await cache.public.delete([`${hash}.narinfo`, `${hash}.ls`]);
    assert.deepEqual((await cache.sweep()).withdrawn, [hash]);
    assert.deepEqual(await seen(cache), [null, null]);
  });
});

test('a damaged pending record is deleted', async () => {
  const cache = createTestCache();
  await cache.publish(await stage(cache, realisation));
  const [pending = ''] = await listKeys(cache.private, pendingPrefix);
  await cache.private.put(pending, Buffer.from('damage'));
  await cache.publish(await cache.stage([out]));
  await cache.sweep();
  assert.deepEqual(await listKeys(cache.private, pendingPrefix), []);
  assert.deepEqual(await seen(cache), [null, null]);
});
