import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { adoptNarInfos } from '../../../../core/cache/adopt/adopt.ts';
import type {
  AdoptCounts,
  AdoptOptions,
  AdoptResult,
} from '../../../../core/cache/adopt/context.ts';
import { blockedKey, listingKey, narInfoKey } from '../../../../core/cache/layout.ts';
import { readText } from '../../../../core/cache/objects.ts';
import { createUpstreams } from '../../../../core/cache/upstreams.ts';
import { parseNarInfo } from '../../../../core/nix/narinfo.ts';
import type { NarInfo } from '../../../../core/nix/narinfo.ts';
import { storeHash } from '../../../../core/nix/store-path.ts';
import { listKeys } from '../../../support/assert/bytes.ts';
import { CrashError, crashAtWrite } from '../../../support/buckets/crash.ts';
import { memoryBucket } from '../../../support/buckets/memory-bucket.ts';
import { writeForeign } from '../../../support/cache/foreign.ts';
import { checkInvariants } from '../../../support/cache/invariants.ts';
import {
  auditRecords,
  createTestCache,
  publicKeyOf,
  testKey,
  testSigner,
} from '../../../support/cache/kit.ts';
import type { TestCache } from '../../../support/cache/kit.ts';
import {
  contentAddressedFile,
  fileNar,
  inventedPath,
  testPath,
} from '../../../support/cache/paths.ts';
import type { TestPath } from '../../../support/cache/paths.ts';

const trusted = testKey('old-1', 3);
const stranger = testKey('stranger-1', 4);
const glibc = await testPath('glibc');
const hello = await testPath('hello', { references: [glibc] });
const source = await contentAddressedFile('source', 'nar', 'sha256');

type Adopted = AdoptCounts & {
  readonly results: readonly AdoptResult[];
  /** `status code` of a path. */
  of(path: TestPath): string | undefined;
};

async function adopt(cache: TestCache, changes: Partial<AdoptOptions> = {}): Promise<Adopted> {
  const results: AdoptResult[] = [];
  const counts = await adoptNarInfos({
    ...cache,
    selection: 'all',
    trustedKeys: [],
    adoptsUnsigned: false,
    isDryRun: false,
    version: 'niche test',
    onResult: (result) => results.push(result),
    ...changes,
  });
  const of = ({ info }: TestPath): string | undefined => {
    const names = [info.path, narInfoKey(storeHash(info.path))];
    const found = results.find(({ path }) => names.includes(path));
    return found && [found.status, found.code ?? found.by ?? ''].join(' ').trim();
  };
  return { ...counts, results, of };
}

const trusts = { trustedKeys: [publicKeyOf(trusted)] };
const unsigned = { adoptsUnsigned: true };

async function narInfoOf(cache: TestCache, { info }: TestPath): Promise<NarInfo> {
  return parseNarInfo((await readText(cache.public, narInfoKey(storeHash(info.path)))) ?? '');
}

const check = (cache: TestCache): Promise<unknown> =>
  checkInvariants({ ...cache, publicKeys: cache.config.publicKeys });

describe('narinfos that others wrote', () => {
  it('are signed if they are content-addressed or signed by a trusted key', async () => {
    const cache = createTestCache();
    const both = await testPath('both', { references: [source, hello] });
    await writeForeign(cache.public, glibc, { keys: [trusted, stranger] });
    await writeForeign(cache.public, hello, { keys: [trusted], compression: 'none' });
    await writeForeign(cache.public, both, { keys: [trusted], compression: 'gzip' });
    await writeForeign(cache.public, source, { compression: 'br' });
    const adopted = await adopt(cache, trusts);
    assert.equal(adopted.adopted, 4);
    assert.equal(adopted.of(source), 'adopted content-address');
    assert.equal(adopted.of(hello), `adopted ${publicKeyOf(trusted)}`);
    await check(cache);
    // The trusted key’s signature stays, for readers that know no other key.
    const { signatures, url } = await narInfoOf(cache, glibc);
    assert.deepEqual(
      signatures.map((each) => each.split(':')[0]),
      ['old-1', 'test-1'],
    );
    assert.equal(url, `nar/${glibc.info.narHash.slice(7)}.nar.zst`);
    assert.notEqual(await cache.public.head(listingKey(storeHash(glibc.info.path))), null);
    const records = await auditRecords(cache);
    assert.deepEqual(
      new Set(records.map((record) => ('provenance' in record ? record.provenance : undefined))),
      new Set([
        { by: 'content-address' },
        ...[1, 2, 3].map(() => ({ by: 'signature', publicKey: publicKeyOf(trusted) })),
      ]),
    );
    assert.ok(records.every(({ upload }) => upload === 'adopt'));
    // Nothing is left for a second run.
    const again = await adopt(cache, trusts);
    assert.deepEqual([again.signed, again.results], [4, []]);
  });

  it('are not signed without provenance, and neither are paths that refer to them', async () => {
    const cache = createTestCache();
    await writeForeign(cache.public, glibc, { keys: [stranger] });
    await writeForeign(cache.public, hello, { keys: [trusted] });
    const before = new Map(cache.publicStore.objects);
    const refused = await adopt(cache, trusts);
    assert.equal(refused.of(glibc), 'refused untrusted-path');
    assert.equal(refused.of(hello), 'refused missing-references');
    assert.deepEqual(new Map(cache.publicStore.objects), before);
    assert.deepEqual(await auditRecords(cache), []);

    const adopted = await adopt(cache, { ...trusts, ...unsigned });
    assert.equal(adopted.of(glibc), 'adopted nothing');
    await check(cache);
    const [record] = await auditRecords(cache);
    assert.deepEqual(record && 'provenance' in record && record.provenance, { by: 'nothing' });
  });

  it('are not signed when a trusted signature is of something else', async () => {
    const cache = createTestCache();
    const other = await testPath('glibc', { contents: 'other' });
    const { signatures } = await writeForeign(cache.public, other, { keys: [trusted] });
    await writeForeign(cache.public, glibc, { fields: { signatures } });
    assert.equal((await adopt(cache, trusts)).of(glibc), 'refused untrusted-path');
  });

  it('pass the checks of a publisher first', async () => {
    const upstreamKey = testKey('up-1', 7);
    const upstream = memoryBucket({ url: 'memory:///upstream' });
    const conflicting = await testPath('conflicting');
    await writeForeign(upstream, await testPath('conflicting', { contents: 'theirs' }), {
      keys: [upstreamKey],
    });
    const open = { reader: upstream, publicKey: publicKeyOf(upstreamKey) };
    const cache = createTestCache({
      upstreams: createUpstreams([open], '/nix/store'),
      config: { limits: { maxNarBytes: 1000, unclaimed: 'reject' } },
    });
    await writeForeign(cache.public, conflicting);
    const other = await fileNar('other contents');
    const changed = await testPath('changed');
    await writeForeign(cache.public, { ...changed, nar: other });
    const unproven = await testPath('unproven');
    const claims = { ...unproven.info, references: [glibc.info.path] };
    await writeForeign(cache.public, glibc);
    await writeForeign(cache.public, { ...unproven, info: claims });
    const unclaimed = await testPath('unclaimed', { references: [glibc] });
    await writeForeign(cache.public, {
      ...unclaimed,
      info: { ...unclaimed.info, references: [] },
    });
    const large = await testPath('large', { contents: Buffer.alloc(2000) });
    await writeForeign(cache.public, large);
    const blocked = await testPath('blocked');
    await writeForeign(cache.public, blocked);
    await cache.private.put(blockedKey(storeHash(blocked.info.path)), Buffer.alloc(0));
    const forged = { ...source, info: { ...source.info, path: inventedPath('forged') } };
    await writeForeign(cache.public, forged);
    const lost = await testPath('lost');
    await cache.public.delete([(await writeForeign(cache.public, lost)).url]);
    const damaged = await testPath('damaged');
    await writeForeign(cache.public, damaged, { fields: { compression: 'xz' } });
    const unknown = await testPath('unknown');
    await writeForeign(cache.public, unknown, { fields: { compression: 'bzip2' } });
    const outside = await testPath('outside');
    await writeForeign(cache.public, outside, { fields: { url: 'niche.signing.json' } });
    const misplaced = await testPath('misplaced');
    const text = (await readText(cache.public, narInfoKey(storeHash(glibc.info.path)))) ?? '';
    await cache.public.put(narInfoKey(storeHash(misplaced.info.path)), Buffer.from(text));
    const broken = await testPath('broken');
    await cache.public.put(narInfoKey(storeHash(broken.info.path)), Buffer.from('StorePath'));

    const adopted = await adopt(cache, unsigned);
    const expected: readonly (readonly [TestPath, string])[] = [
      [glibc, 'adopted nothing'],
      [conflicting, 'refused upstream-conflict'],
      [changed, 'refused nar-size-mismatch'],
      [unproven, 'refused unproven-reference'],
      [unclaimed, 'refused unclaimed-reference'],
      [large, 'refused too-large'],
      [blocked, 'refused blocked'],
      [forged, 'refused ca-mismatch'],
      [lost, 'refused missing-nar'],
      [damaged, 'refused unreadable-nar'],
      [unknown, 'refused unreadable-nar'],
      [outside, 'refused malformed-narinfo'],
      [misplaced, 'refused malformed-narinfo'],
      [broken, 'refused malformed-narinfo'],
    ];
    for (const [path, result] of expected) {
      assert.equal(adopted.of(path), result, path.info.path);
    }
    assert.deepEqual([adopted.adopted, adopted.refused], [1, expected.length - 1]);
  });

  it('are checked and not written in a dry run', async () => {
    const cache = createTestCache();
    await writeForeign(cache.public, glibc);
    await writeForeign(cache.public, hello);
    const changed = await testPath('changed');
    await writeForeign(cache.public, { ...changed, nar: await fileNar('other contents') });
    const before = new Map(cache.publicStore.objects);
    const found = await adopt(cache, { ...unsigned, isDryRun: true });
    assert.deepEqual([found.adopted, found.refused], [2, 1]);
    assert.deepEqual(new Map(cache.publicStore.objects), before);
    assert.deepEqual(await listKeys(cache.private), []);
  });

  it('let paths be published that wait for them', async () => {
    const cache = createTestCache();
    await writeForeign(cache.public, glibc);
    const id = await cache.stage([glibc, hello]);
    await cache.publish(id);
    assert.equal((await cache.receipt(id.upload, glibc.info))?.code, 'unverified-narinfo');
    assert.equal((await cache.receipt(id.upload, hello.info))?.status, 'waiting');
    await adopt(cache, unsigned);
    cache.advance(3_600_000);
    await cache.sweep();
    assert.equal((await cache.receipt(id.upload, hello.info))?.status, 'published');
    await check(cache);
  });

  it('are kept when someone changes them meanwhile, with the paths that refer to them', async () => {
    const cache = createTestCache();
    await writeForeign(cache.public, glibc);
    await writeForeign(cache.public, hello);
    let isChanged = false;
    const bucket = memoryBucket({
      store: cache.publicStore,
      async before(operation) {
        if (operation !== 'replace' || isChanged) return;
        isChanged = true;
        await writeForeign(cache.public, glibc, { keys: [stranger] });
      },
    });
    const adopted = await adopt(cache, { ...unsigned, public: bucket });
    assert.deepEqual([adopted.changed, adopted.adopted], [2, 0]);
    assert.deepEqual((await narInfoOf(cache, hello)).signatures, []);
    assert.equal((await adopt(cache, unsigned)).adopted, 2);
    await check(cache);
  });

  it('are all signed when it runs again after a crash at any write', async () => {
    for (let nth = 1; ; nth += 1) {
      const cache = createTestCache();
      const paths = [glibc, hello, source];
      for (const path of paths) await writeForeign(cache.public, path);
      const crash = crashAtWrite(
        nth,
        nth % 2 === 0 ? 'after' : 'before',
        new Set(['put', 'replace']),
      );
      const view = { store: cache.publicStore, ...crash };
      const run = adopt(cache, { ...unsigned, public: memoryBucket(view) });
      const hasCrashed = await run.then(
        () => false,
        (error: unknown) => {
          assert.ok(error instanceof CrashError);
          return true;
        },
      );
      await adopt(cache, unsigned);
      await check(cache);
      if (!hasCrashed) break;
      assert.ok(nth < 50);
    }
  });

  it('are withdrawn if they are blocked meanwhile', async () => {
    const cache = createTestCache();
    await writeForeign(cache.public, glibc);
    const hash = storeHash(glibc.info.path);
    const bucket = memoryBucket({
      store: cache.publicStore,
      async after(operation) {
        if (operation === 'replace') await cache.private.put(blockedKey(hash), Buffer.alloc(0));
      },
    });
    await adopt(cache, { ...unsigned, public: bucket });
    assert.equal(await cache.public.head(narInfoKey(hash)), null);
  });

  it('may form circles, which are refused', async () => {
    const cache = createTestCache();
    const one = await testPath('one', { references: [(await testPath('two')).info.path] });
    const two = await testPath('two', { references: [one] });
    await writeForeign(cache.public, one);
    await writeForeign(cache.public, two);
    const adopted = await adopt(cache, unsigned);
    assert.deepEqual([adopted.adopted, adopted.refused], [0, 2]);
  });
});

/** Another cache that has a path. */
const other = memoryBucket({ url: 'memory:///other' });
await writeForeign(other, glibc, { keys: [stranger] });

describe('a selected narinfo', () => {
  it('is signed with the references that lack a signature, and no others', async () => {
    const cache = createTestCache();
    for (const path of [glibc, hello, source]) await writeForeign(cache.public, path);
    const selection = [storeHash(hello.info.path)];
    const adopted = await adopt(cache, { ...unsigned, selection });
    assert.deepEqual([adopted.of(glibc), adopted.of(hello)], Array(2).fill('adopted nothing'));
    assert.equal(adopted.of(source), undefined);
  });

  it('is reported if it is missing', async () => {
    const selection = [storeHash(hello.info.path)];
    assert.equal((await adopt(createTestCache(), { selection })).of(hello), 'refused not-found');
  });

  it('gets back its damaged NAR, and nothing else of it changes', async () => {
    const cache = createTestCache();
    await cache.publish(await cache.stage([glibc]));
    const before = await narInfoOf(cache, glibc);
    const selection = [storeHash(glibc.info.path)];
    assert.deepEqual((await adopt(cache, { selection })).results, [], 'intact');
    for (const damage of ['replaced', 'deleted']) {
      const { url } = await narInfoOf(cache, glibc);
      if (damage === 'deleted') await cache.public.delete([url]);
      else await cache.public.put(url, Buffer.from('damaged'));
      assert.equal((await adopt(cache, { selection })).of(glibc), 'refused unreadable-nar');
      const dry = await adopt(cache, { selection, from: other, isDryRun: true });
      assert.equal(dry.of(glibc), 'repaired');
      assert.equal((await narInfoOf(cache, glibc)).url, url);
      assert.equal((await adopt(cache, { selection, from: other })).of(glibc), 'repaired');
      await check(cache);
      const { url: now, fileHash, fileSize, ...after } = await narInfoOf(cache, glibc);
      assert.deepEqual(
        { ...after, url: before.url, fileHash, fileSize },
        {
          ...before,
          ...{ fileHash, fileSize },
        },
      );
      assert.ok(now.startsWith(`nar/${glibc.info.narHash.slice(7)}`));
    }
  });

  it('does not get the NAR of a path with other contents or references', async () => {
    const cache = createTestCache();
    const changed = await testPath('glibc', { contents: 'other' });
    await cache.publish(await cache.stage([changed]));
    const { url } = await narInfoOf(cache, changed);
    await cache.public.delete([url]);
    const selection = [storeHash(glibc.info.path)];
    const run = await adopt(cache, { selection, from: other, ...unsigned });
    assert.equal(run.of(glibc), 'refused unreadable-nar');
  });

  it('is adopted with the NAR of another cache if its own is damaged', async () => {
    const cache = createTestCache();
    await cache.public.delete([(await writeForeign(cache.public, glibc)).url]);
    assert.equal((await adopt(cache, { ...unsigned, from: other })).of(glibc), 'adopted nothing');
    await check(cache);
  });
});

describe('a run', () => {
  it('changes nothing with a wrong signer, after an abort, or without conditional writes', async () => {
    const cache = createTestCache();
    await writeForeign(cache.public, glibc);
    const signers = [testSigner('other-1', 9)];
    await assert.rejects(adopt(cache, { ...unsigned, signers }), { code: 'wrong-key' });
    const signal = AbortSignal.abort();
    await assert.rejects(adopt(cache, { ...unsigned, signal }), { code: 'aborted' });
    const capabilities = { ...cache.public.capabilities, conditionalReplace: false };
    const unconditional = { ...cache.public, capabilities };
    await assert.rejects(adopt(cache, { ...unsigned, public: unconditional }), { code: 'usage' });
    assert.deepEqual((await narInfoOf(cache, glibc)).signatures, []);
  });
});
