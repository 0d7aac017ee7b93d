import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { BatchId } from '../../../../core/cache/layout.ts';
import { formatManifest } from '../../../../core/cache/manifest.ts';
import { listStrongestReceipts } from '../../../../core/cache/receipts/listed-receipts.ts';
import { readReceipt } from '../../../../core/cache/receipts/receipts.ts';
import { maxNamedUnclaimed } from '../../../../core/limits.ts';
import { storeBaseName, parseStorePath, storeHash } from '../../../../core/nix/store-path.ts';
import { listKeys, readObject } from '../../../support/assert/bytes.ts';
import { checkInvariants } from '../../../support/cache/invariants.ts';
import { leftPrefixes, createTestCache } from '../../../support/cache/kit.ts';
import { fileNar, inventedPath, testPath, treeNar, claimOf } from '../../../support/cache/paths.ts';

const a = await testPath('a');
const b = await testPath('b', { references: [a] });
const c = await testPath('c', { references: [a, b], selfReference: true });
const d = await testPath('d', { references: [c, b] });

describe('a path with missing references', () => {
  it('is published once they are, in any order and from any upload', async () => {
    const all = [a, b, c, d];
    const orders = fc.shuffledSubarray(all, { minLength: 4, maxLength: 4 });
    const property = fc.asyncProperty(orders, fc.boolean(), async (order, inOne) => {
      const cache = createTestCache({ config: { compression: { kind: 'none', level: 3 } } });
      const ids: BatchId[] = [];
      if (inOne) ids.push(await cache.stage(order));
      else for (const path of order) ids.push(await cache.stage([path]));
      for (const id of ids) await cache.publish(id);
      for (const [index, { info }] of order.entries()) {
        const { upload } = ids[inOne ? 0 : index]!;
        assert.equal((await cache.receipt(upload, info))?.status, 'published');
      }
      await checkInvariants({ ...cache, publicKeys: cache.config.publicKeys });
      assert.deepEqual(await leftPrefixes(cache), ['audit', 'receipts']);
    });
    await fc.assert(property, { numRuns: 30 });
  });

  it('has a receipt with the missing references, and the strongest receipt counts', async () => {
    const cache = createTestCache();
    const id = await cache.stage([d]);
    const [published] = await cache.publish(id);
    assert.deepEqual(published?.outcome.missing, [b, c].map(({ info }) => info.path).sort());
    const waiting = await cache.receipt(id.upload, d.info);
    assert.equal(waiting?.status, 'waiting');
    assert.deepEqual(await listKeys(cache.staging, 'staging/'), []);
    await cache.publish(await cache.stage([a, b, c]));
    assert.equal((await cache.receipt(id.upload, d.info))?.status, 'published');
    // The weaker receipt stays.
    const old = await readReceipt(cache.staging, id.upload, storeHash(d.info.path), 'waiting');
    assert.deepEqual(old, waiting);
  });

  it('has a receipt with at most a hundred of them', async () => {
    const references = Array.from({ length: 150 }, (_, n) => inventedPath(`ref-${n}`));
    const many = await testPath('many', { references });
    const cache = createTestCache();
    const id = await cache.stage([many]);
    await cache.publish(id);
    const receipt = await cache.receipt(id.upload, many.info);
    assert.deepEqual(receipt?.missing, references.sort().slice(0, 100));
  });

  it('is rejected if its path was published with other contents in the meantime', async () => {
    const cache = createTestCache();
    const other = await testPath('b', { contents: 'without references' });
    const id = await cache.stage([b]);
    await cache.publish(id);
    await cache.publish(await cache.stage([other]));
    await cache.publish(await cache.stage([a]));
    assert.equal((await cache.receipt(id.upload, b.info))?.code, 'conflict');
    assert.deepEqual(await listKeys(cache.private, 'pending/'), []);
    assert.deepEqual(await listKeys(cache.private, 'waiting/'), []);
  });

  it('waits also for a reference whose hash is published under another name', async () => {
    const cache = createTestCache();
    const sameHash = { ...a, info: { ...a.info, path: `${a.info.path}-renamed` } };
    await cache.publish(await cache.stage([sameHash]));
    const id = await cache.stage([b]);
    await cache.publish(id);
    assert.deepEqual((await cache.receipt(id.upload, b.info))?.missing, [a.info.path]);
  });
});

describe('references', () => {
  it('that the contents do not mention are rejected', async () => {
    const cache = createTestCache();
    await cache.publish(await cache.stage([a]));
    const nar = await fileNar('mentions nothing');
    const info = { ...claimOf(inventedPath('liar'), nar), references: [a.info.path] };
    const id = await cache.stage([{ info, nar }]);
    await cache.publish(id);
    const receipt = await cache.receipt(id.upload, info);
    assert.equal(receipt?.code, 'unproven-reference');
    assert.match(receipt.message ?? '', new RegExp(a.info.path));
  });

  it('are found anywhere: in names, in symlink targets, and as a bare hash', async () => {
    const hash = storeHash(a.info.path);
    const file = {
      type: 'regular',
      executable: false,
      size: 0,
      contents: () => Buffer.alloc(0),
    } as const;
    const nars = [
      await treeNar({ type: 'symlink', target: `${a.info.path}/bin` }),
      await treeNar({ type: 'directory', entries: () => [[`x-${hash}-y`, file]] }),
      await fileNar(`only ${hash} itself`),
    ];
    for (const [index, nar] of nars.entries()) {
      const cache = createTestCache();
      const info = { ...claimOf(inventedPath(`m${index}`), nar), references: [a.info.path] };
      const [, published] = await cache.publish(await cache.stage([a, { info, nar }]));
      assert.equal(published?.outcome.status, 'published');
    }
  });

  it('that are not claimed are counted and listed, or rejected if the cache is configured so', async () => {
    const unclaimed = Array.from({ length: 30 }, (_, n) => inventedPath(`unclaimed-${n}`));
    const nar = await fileNar(unclaimed.join('\n'));
    const info = claimOf(inventedPath('careless'), nar);
    const cache = createTestCache();
    const id = await cache.stage([{ info, nar }]);
    await cache.publish(id);
    const receipt = await cache.receipt(id.upload, info);
    assert.equal(receipt?.status, 'published');
    const [warning = ''] = receipt.warnings ?? [];
    assert.match(warning, /mention 30 store paths/);
    const named = unclaimed.filter((path) => warning.includes(path));
    assert.deepEqual(named, unclaimed.slice(0, maxNamedUnclaimed));
    const auditKey = (await listKeys(cache.private, 'audit/'))[0]!;
    const audit = JSON.parse(String(await readObject(cache.private, auditKey))) as {
      unclaimed: { count: number; first: string[] };
    };
    assert.equal(audit.unclaimed.count, 30);
    assert.deepEqual(audit.unclaimed.first, unclaimed.slice(0, maxNamedUnclaimed));

    const strict = createTestCache({ config: { limits: { unclaimed: 'reject' } } });
    const refused = await strict.stage([{ info, nar }, a]);
    await strict.publish(refused);
    assert.equal((await strict.receipt(refused.upload, info))?.code, 'unclaimed-reference');
    assert.equal((await strict.receipt(refused.upload, a.info))?.status, 'published');
  });
});

describe('build logs', () => {
  const drv = inventedPath('logged.drv');
  const drvName = storeBaseName(parseStorePath(drv));
  const log = `log/${drvName}`;

  it('are published with their path, also if it has waited', async () => {
    const logged = await testPath('logged', { references: [a], deriver: drv });
    const cache = createTestCache();
    await cache.publish(await cache.stage([logged], { logs: { [drvName]: 'built it' } }));
    assert.equal(await readObject(cache.public, log), null);
    assert.deepEqual(await listKeys(cache.staging, 'staging/'), []);
    await cache.publish(await cache.stage([a]));
    assert.equal(String(await readObject(cache.public, log)), 'built it');
    // The first log stays.
    await cache.publish(await cache.stage([logged], { logs: { [drvName]: 'again' } }));
    assert.equal(String(await readObject(cache.public, log)), 'built it');
  });

  it('are left out if they are too long, and the path is published', async () => {
    const logged = await testPath('logged', { deriver: drv });
    const cache = createTestCache();
    const logs = { [drvName]: Buffer.alloc(16 * 1024 * 1024 + 1) };
    const [published] = await cache.publish(await cache.stage([logged], { logs }));
    assert.equal(published?.outcome.status, 'published');
    assert.equal(await cache.public.head(log), null);
    assert.deepEqual(await listKeys(cache.staging, 'staging/'), []);
  });

  it('keeps waiting when its batch is staged once more while a publisher removes it', async () => {
    const cache = createTestCache();
    const late = await testPath('late');
    const waits = await testPath('waits', { references: [late] });
    const id = await cache.stage([waits]);
    await cache.publish(id);
    // The client repeats the request that stores the manifest. The NARs are gone.
    await cache.stageRaw(formatManifest({ encoding: 'none', paths: [waits.info] }), null, { id });
    await cache.publish(id);
    const waiting = await cache.receipt(id.upload, waits.info);
    assert.deepEqual([waiting?.status, waiting?.missing], ['waiting', [late.info.path]]);
    await cache.publish(await cache.stage([late]));
    const strongest = await listStrongestReceipts(cache.staging, id.upload);
    assert.equal(strongest.get(storeHash(waits.info.path))?.status, 'published');
    const rejected = await readReceipt(
      cache.staging,
      id.upload,
      storeHash(waits.info.path),
      'rejected',
    );
    assert.equal(rejected, null);
    assert.deepEqual(await leftPrefixes(cache), ['audit', 'receipts']);
  });
});
