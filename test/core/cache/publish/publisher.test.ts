import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { listingKey, logKey, narInfoKey, stagedNarsKey } from '../../../../core/cache/layout.ts';
import { parseListing } from '../../../../core/nix/listing.ts';
import { parseNarInfo } from '../../../../core/nix/narinfo.ts';
import { storeHash } from '../../../../core/nix/store-path.ts';
import { listKeys, readObject } from '../../../support/assert/bytes.ts';
import { checkInvariants } from '../../../support/cache/invariants.ts';
import { leftPrefixes, auditRecords, createTestCache } from '../../../support/cache/kit.ts';
import { testPath } from '../../../support/cache/paths.ts';

describe('publishing a batch', () => {
  it('creates no listings for a cache without listings, also when a path is staged again', async () => {
    const cache = createTestCache({ config: { listings: false } });
    const path = await testPath('hello');
    for (const status of ['published', 'exists'] as const) {
      const id = await cache.stage([path]);
      await cache.publish(id);
      assert.equal((await cache.receipt(id.upload, path.info))?.status, status);
    }
    assert.equal(await cache.public.head(listingKey(storeHash(path.info.path))), null);
  });

  for (const kind of ['zstd', 'none'] as const) {
    it(`creates narinfo, NAR, listing, receipt and audit record, with compression ${kind}`, async () => {
      const cache = createTestCache({ config: { compression: { kind, level: 3 } } });
      const glibc = await testPath('glibc');
      const hello = await testPath('hello', { references: [glibc], selfReference: true });
      const id = await cache.stage([glibc, hello]);
      const published = await cache.publish(id);

      assert.deepEqual(
        published.map(({ path, outcome }) => [path, outcome.status]),
        [
          [glibc.info.path, 'published'],
          [hello.info.path, 'published'],
        ],
      );
      const text = await readObject(cache.public, narInfoKey(storeHash(hello.info.path)));
      const info = parseNarInfo(String(text));
      assert.deepEqual({ ...info, signatures: [] }, { ...info, ...hello.info });
      assert.equal(info.compression, kind);
      assert.match(info.url, kind === 'zstd' ? /^nar\/\w{52}\.nar\.zst$/ : /^nar\/\w{52}\.nar$/);
      const listing = await readObject(cache.public, listingKey(storeHash(hello.info.path)));
      assert.equal(parseListing(String(listing)).type, 'regular');
      assert.equal((await cache.receipt(id.upload, hello.info))?.status, 'published');
      const audit = await auditRecords(cache);
      assert.deepEqual(
        audit.map(({ path, upload, signatures }) => [path, upload, signatures.length]),
        [glibc, hello].map((path) => [path.info.path, id.upload, 1]),
      );
      await checkInvariants({ ...cache, publicKeys: cache.config.publicKeys });
      assert.deepEqual(await leftPrefixes(cache), ['audit', 'receipts']);
    });
  }

  it('writes a log for the published deriver only, not for one that a later claim names', async () => {
    const cache = createTestCache();
    const built = `${'a'.repeat(32)}-x.drv`;
    const victim = `${'b'.repeat(32)}-x.drv`;
    const path = await testPath('x', { deriver: `/nix/store/${built}` });
    const forged = { ...path, info: { ...path.info, deriver: `/nix/store/${victim}` } };
    await cache.publish(await cache.stage([path]));

    const id = await cache.stage([forged], { logs: { [victim]: 'forged' } });
    await cache.publish(id);
    assert.equal((await cache.receipt(id.upload, path.info))?.status, 'exists');
    assert.deepEqual(await listKeys(cache.public, 'log/'), []);

    await cache.publish(await cache.stage([path], { logs: { [built]: 'built' } }));
    assert.deepEqual(await listKeys(cache.public, 'log/'), [logKey(built)]);
  });

  for (const createsInOrder of [false, true]) {
    it(`writes no log for the loser of a race, with createInOrder ${createsInOrder}`, async () => {
      const cache = createTestCache({ createsInOrder });
      const victim = `${'b'.repeat(32)}-x.drv`;
      const path = await testPath('x', { deriver: `/nix/store/${'a'.repeat(32)}-x.drv` });
      const other = { ...path, info: { ...path.info, deriver: `/nix/store/${victim}` } };
      const won = await cache.stage([path]);
      const lost = await cache.stage([other], { logs: { [victim]: 'forged' } });
      let isFirst = true;
      const slow = cache.publisher({
        hooks: {
          // Both have looked the path up before either creates its narinfo.
          before: async (operation, key) => {
            if (operation !== 'put' || !key.endsWith('.narinfo') || !isFirst) return;
            isFirst = false;
            await cache.publish(won);
          },
        },
      });
      await cache.publish(lost, slow);
      assert.equal((await cache.receipt(lost.upload, path.info))?.status, 'exists');
      assert.deepEqual(await listKeys(cache.public, 'log/'), []);
    });
  }

  it('keeps only some build logs in memory at once, however many are staged', async () => {
    const cache = createTestCache();
    const mib = 2 ** 20;
    const names = [...Array(6).keys()].map(
      (index) => `0000000000000000000000000000000${index}-p.drv`,
    );
    const paths = await Promise.all(
      names.map((name) => testPath(name, { deriver: `/nix/store/${name}` })),
    );
    const log = Buffer.alloc(15 * mib, 'x');
    const id = await cache.stage(paths, {
      logs: Object.fromEntries(names.map((name) => [name, log])),
    });
    let held = 0;
    let most = 0;
    const publisher = cache.publisher({
      hooks: {
        after: (operation, key) => {
          if (operation === 'get' && key.endsWith('.log')) held += 1;
          if (operation === 'put' && key.startsWith('log/')) held -= 1;
          most = Math.max(most, held);
        },
      },
    });
    await cache.publish(id, publisher);
    assert.ok(most <= 2, `${most} logs of 15 MiB`);
    assert.equal((await listKeys(cache.public, 'log/')).length, paths.length);
    for (const { info } of paths) {
      assert.equal((await cache.receipt(id.upload, info))?.status, 'published');
    }
    assert.deepEqual(await listKeys(cache.staging, 'staging/'), []);
  });

  it('deletes the staged objects of a batch whose manifest it refuses', async () => {
    const cache = createTestCache();
    const { nar } = await testPath('hello');
    const id = await cache.stageRaw('{"version":1}', nar);
    await cache.publish(id);
    assert.equal((await cache.receipt(id.upload, id.batch))?.code, 'malformed-manifest');
    assert.deepEqual(await listKeys(cache.staging, 'staging/'), []);
    assert.deepEqual(await cache.publish(id), []);
  });

  it('does not store the NAR of a published path again on storage without conditional writes', async () => {
    const cache = createTestCache();
    const path = await testPath('hello');
    const capabilities = { ...cache.public.capabilities, conditionalComplete: false };
    const publisher = cache.publisher({ public: { ...cache.public, capabilities } });
    for (const status of ['published', 'exists'] as const) {
      const [published] = await cache.publish(await cache.stage([path]), publisher);
      assert.equal(published?.outcome.status, status);
      assert.equal((await listKeys(cache.public, 'nar/')).length, 1);
    }
  });

  it('reports nothing for a NAR that another publisher has rejected and removed', async () => {
    const cache = createTestCache();
    const { info, nar } = await testPath('hello');
    const id = await cache.stage([{ info, nar: Buffer.alloc(nar.length) }]);
    let isRefused = false;
    const late = cache.publisher({
      hooks: {
        before: async (operation, key) => {
          if (operation !== 'get' || key !== stagedNarsKey(id, 'none') || isRefused) return;
          isRefused = true;
          await cache.publish(id);
        },
      },
    });
    assert.deepEqual(await late.publishBatch(id), []);
    assert.ok(isRefused);
    assert.equal((await cache.receipt(id.upload, info))?.code, 'malformed-nar');
    assert.equal((await listKeys(cache.staging, 'receipts/')).length, 1);
  });
});
