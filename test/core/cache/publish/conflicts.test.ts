import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { blockedKey, narInfoKey } from '../../../../core/cache/layout.ts';
import { formatManifest } from '../../../../core/cache/manifest.ts';
import type { Publisher } from '../../../../core/cache/publish/publisher.ts';
import { readText } from '../../../../core/cache/objects.ts';
import { fingerprint } from '../../../../core/nix/fingerprint.ts';
import { signFingerprint } from '../../../../core/nix/keys.ts';
import type { SecretKey } from '../../../../core/nix/keys.ts';
import { formatNarInfo } from '../../../../core/nix/narinfo.ts';
import type { NarInfo } from '../../../../core/nix/narinfo.ts';
import { storeHash } from '../../../../core/nix/store-path.ts';
import type { Signer } from '../../../../core/signing/signer.ts';
import { listKeys } from '../../../support/assert/bytes.ts';
import { checkInvariants } from '../../../support/cache/invariants.ts';
import type { Visible } from '../../../support/cache/invariants.ts';
import {
  auditRecords,
  createTestCache,
  publicKeyOf,
  testKey,
  testSigner,
} from '../../../support/cache/kit.ts';
import type { TestCache } from '../../../support/cache/kit.ts';
import { testPath } from '../../../support/cache/paths.ts';
import type { TestPath } from '../../../support/cache/paths.ts';

const glibc = await testPath('glibc');
const hello = await testPath('hello', { references: [glibc] });

const check = (cache: TestCache, before?: Visible): Promise<Visible> =>
  checkInvariants({ ...cache, publicKeys: cache.config.publicKeys, ...(before ? { before } : {}) });

async function verdict(cache: TestCache, path: TestPath): Promise<string> {
  const id = await cache.stage([path]);
  await cache.publish(id);
  const receipt = await cache.receipt(id.upload, path.info);
  return receipt?.code ?? receipt?.status ?? 'no receipt';
}

function sigNames(cache: TestCache, { info }: TestPath): string[] {
  const object = cache.publicStore.objects.get(narInfoKey(storeHash(info.path)));
  const text = Buffer.from(object?.bytes ?? []).toString();
  return [...text.matchAll(/^Sig: ([^:]*):/gm)].map(([, name]) => name ?? '');
}

describe('a published path', () => {
  it('never changes: other contents, references, sizes or names are conflicts', async () => {
    const cache = createTestCache();
    await cache.publish(await cache.stage([glibc, hello]));
    const before = await check(cache);
    const others = [
      await testPath('hello', { references: [glibc], contents: 'evil' }),
      await testPath('hello'),
      { ...hello, info: { ...hello.info, references: [] } },
      { ...hello, info: { ...hello.info, narSize: hello.info.narSize + 8 } },
      { ...hello, info: { ...hello.info, path: `${hello.info.path}-2` } },
    ];
    for (const other of others) assert.equal(await verdict(cache, other), 'conflict');
    assert.deepEqual(await check(cache, before), before);
  });

  it('exists when it is staged again, also with another deriver or signature', async () => {
    const cache = createTestCache();
    await cache.publish(await cache.stage([glibc]));
    const before = await check(cache);
    const deriver = `${hello.info.path}.drv`;
    assert.equal(await verdict(cache, { ...glibc, info: { ...glibc.info, deriver } }), 'exists');
    assert.deepEqual(await check(cache, before), before);
    // Nothing is signed twice.
    assert.equal((await auditRecords(cache)).length, 1);
  });

  it('gets its missing listing and log when it is staged again', async () => {
    const cache = createTestCache();
    await cache.publish(await cache.stage([glibc]));
    const listing = `${storeHash(glibc.info.path)}.ls`;
    await cache.public.delete([listing]);
    // No NAR is staged: the publisher reads the published one.
    const manifest = formatManifest({ encoding: 'none', paths: [glibc.info] });
    const id = await cache.stageRaw(manifest, null);
    await cache.publish(id);
    assert.equal((await cache.receipt(id.upload, glibc.info))?.status, 'exists');
    assert.notEqual(await cache.public.head(listing), null);
  });
});

/** Creates a publisher that has stored the NAR when the path is blocked. */
function blockedWhilePublishing(cache: TestCache, { info }: TestPath): Publisher {
  return cache.publisher({
    hooks: {
      after: async (operation, key) => {
        if (operation !== 'put' || !key.startsWith('nar/')) return;
        await cache.private.put(blockedKey(storeHash(info.path)), Buffer.alloc(0));
      },
    },
  });
}

describe('a blocked path', () => {
  it('is rejected, and counts as missing', async () => {
    const cache = createTestCache();
    const hash = storeHash(glibc.info.path);
    await cache.publish(await cache.stage([glibc]));
    await cache.private.put(blockedKey(hash), Buffer.alloc(0));
    await cache.public.delete([narInfoKey(hash)]);
    assert.equal(await verdict(cache, glibc), 'blocked');
    assert.equal(await verdict(cache, hello), 'waiting');
    assert.equal(await cache.public.head(narInfoKey(hash)), null);
    // Even while its narinfo still exists.
    const late = createTestCache();
    await late.publish(await late.stage([glibc]));
    await late.private.put(blockedKey(hash), Buffer.alloc(0));
    assert.equal(await verdict(late, hello), 'waiting');
    assert.equal(await verdict(late, glibc), 'blocked');
  });

  it('leaves nothing in the public root', async () => {
    const cache = createTestCache();
    await cache.private.put(blockedKey(storeHash(glibc.info.path)), Buffer.alloc(0));
    assert.equal(await verdict(cache, glibc), 'blocked');
    assert.deepEqual(await listKeys(cache.public), []);
  });

  it('counts as missing even right after a publisher found it', async () => {
    const cache = createTestCache();
    const reads: string[] = [];
    const publisher = cache.publisher({
      hooks: {
        before: (operation, key) => {
          if (operation === 'get') reads.push(key);
        },
      },
    });
    const hash = storeHash(glibc.info.path);
    await cache.publish(await cache.stage([glibc]), publisher);
    await cache.publish(await cache.stage([hello]), publisher);
    // It makes no request for a path that it has published itself.
    assert.ok(!reads.includes(narInfoKey(hash)), reads.join());
    await cache.private.put(blockedKey(hash), Buffer.alloc(0));
    await cache.public.delete([narInfoKey(hash)]);
    const other = await testPath('other', { references: [glibc] });
    const id = await cache.stage([other]);
    await cache.publish(id, publisher);
    assert.equal((await cache.receipt(id.upload, other.info))?.status, 'waiting');
  });

  it('is rejected even if it is blocked while it is being published', async () => {
    const cache = createTestCache();
    const id = await cache.stage([glibc]);
    await cache.publish(id, blockedWhilePublishing(cache, glibc));
    assert.equal((await cache.receipt(id.upload, glibc.info))?.code, 'blocked');
    assert.deepEqual(await check(cache), new Map());
    assert.deepEqual(await auditRecords(cache), []);
  });

  for (const createsInOrder of [false, true]) {
    const how = createsInOrder ? 'where narinfos are created in one go' : 'one narinfo at a time';
    it(`prevents its dependents in the batch from being published, ${how}`, async () => {
      const cache = createTestCache({ createsInOrder });
      const id = await cache.stage([glibc, hello]);
      await cache.publish(id, blockedWhilePublishing(cache, glibc));
      assert.deepEqual(await check(cache), new Map());
      assert.equal((await cache.receipt(id.upload, glibc.info))?.code, 'blocked');
      assert.equal((await cache.receipt(id.upload, hello.info))?.status, 'waiting');
    });
  }
});

/** Others may have written narinfos to the bucket, such as `nix copy`. */
const foreign: readonly [string, (path: TestPath) => string][] = [
  ['is damaged', () => 'StorePath'],
  ['has no signature', (path) => formatNarInfo(publishedBy(path, []))],
  [
    'is signed by another key of the same name',
    (path) => formatNarInfo(publishedBy(path, [testKey('test-1', 5)])),
  ],
  [
    'has the signature of other contents',
    (path) => {
      const signed = publishedBy(path, [testKey('test-1', 1)]);
      return formatNarInfo({ ...signed, narSize: signed.narSize + 8 });
    },
  ],
];

/** Returns the narinfo of a path in another cache with these keys. */
function publishedBy(path: TestPath, keys: readonly SecretKey[]): NarInfo {
  const signatures = keys.map((key) => signFingerprint(fingerprint(path.info), key));
  return { ...path.info, ...noFile, signatures };
}

const noFile = { url: 'nar/x.nar', compression: 'none', fileHash: null, fileSize: null, extra: [] };

for (const [about, narInfoOf] of foreign) {
  describe(`a narinfo that ${about}`, () => {
    const put = async (cache: TestCache, path: TestPath): Promise<void> => {
      const text = narInfoOf(path);
      await cache.public.put(narInfoKey(storeHash(path.info.path)), Buffer.from(text));
    };

    it('is neither present nor replaced, and the rest of the batch is published', async () => {
      for (const createsInOrder of [false, true]) {
        const cache = createTestCache({ createsInOrder });
        await put(cache, glibc);
        const other = await testPath('other');
        const id = await cache.stage([glibc, other]);
        await cache.publish(id);
        assert.equal((await cache.receipt(id.upload, glibc.info))?.code, 'unverified-narinfo');
        assert.equal((await cache.receipt(id.upload, other.info))?.status, 'published');
        assert.deepEqual(await listKeys(cache.staging, 'staging/'), []);
        const kept = await readText(cache.public, narInfoKey(storeHash(glibc.info.path)));
        assert.equal(kept, narInfoOf(glibc));
      }
    });

    it('counts as a missing reference until it is deleted and published again', async () => {
      const cache = createTestCache();
      await put(cache, glibc);
      const id = await cache.stage([hello]);
      await cache.publish(id);
      assert.equal((await cache.receipt(id.upload, hello.info))?.status, 'waiting');
      await cache.public.delete([narInfoKey(storeHash(glibc.info.path))]);
      await cache.publish(await cache.stage([glibc]));
      assert.equal((await cache.receipt(id.upload, hello.info))?.status, 'published');
      await check(cache);
    });
  });
}

describe('signing', () => {
  const bytes = Buffer.byteLength(fingerprint(hello.info));
  const small = testSigner('kms-1', 2, bytes - 1);

  it('is rejected before any byte is read, if no key can sign the fingerprint', async () => {
    const cache = createTestCache({ signers: [small] });
    const manifest = formatManifest({ encoding: 'none', paths: [hello.info] });
    const id = await cache.stageRaw(manifest, null);
    await cache.publish(id);
    assert.equal((await cache.receipt(id.upload, hello.info))?.code, 'unsignable');
    assert.equal(await verdict(cache, glibc), 'published');
    const exact = createTestCache({ signers: [testSigner('kms-1', 2, bytes)] });
    await exact.publish(await exact.stage([glibc]));
    assert.equal(await verdict(exact, hello), 'published');
  });

  it('uses every key that can sign the fingerprint', async () => {
    const cache = createTestCache({ signers: [small, testSigner('test-1', 1)] });
    await cache.publish(await cache.stage([glibc, hello]));
    assert.deepEqual(sigNames(cache, glibc), ['kms-1', 'test-1']);
    assert.deepEqual(sigNames(cache, hello), ['test-1']);
    await check(cache);
    const audit = await auditRecords(cache);
    const signers = audit.find(({ path }) => path === hello.info.path)?.signers;
    assert.deepEqual(signers, [{ publicKey: testSigner('test-1', 1).publicKey }]);
  });

  it('keeps the verified signatures of upstreams and of keepSignatures, and no others', async () => {
    const text = fingerprint(hello.info);
    const old = testKey('old-1', 3);
    const signatures = [
      signFingerprint(text, old),
      signFingerprint(text, testKey('stranger-1', 4)),
      // Of a kept key's name.
      signFingerprint(text, testKey('old-1', 5)),
      // Of the cache's own key, without an audit record.
      signFingerprint(text, testKey('other-1', 6)),
    ];
    const own = testSigner('other-1', 6).publicKey;
    const cache = createTestCache({
      config: {
        publicKeys: [testSigner('test-1').publicKey, own],
        keepSignatures: [publicKeyOf(old), own],
      },
    });
    const signed = { ...hello, info: { ...hello.info, signatures } };
    // It waits for its reference first: the pending record keeps the signature too.
    const id = await cache.stage([signed]);
    await cache.publish(id);
    assert.equal((await cache.receipt(id.upload, hello.info))?.status, 'waiting');
    // Another process resumes it.
    await cache.publish(await cache.stage([glibc]), cache.publisher());
    assert.deepEqual(sigNames(cache, hello), ['old-1', 'test-1']);
    const found = await readText(cache.public, narInfoKey(storeHash(hello.info.path)));
    assert.ok(found?.includes(`Sig: ${signatures[0] ?? ''}\n`));
    await check(cache);
  });

  const good = testSigner('test-1');
  const liars: [string, Signer][] = [
    ['signs something else', { ...good, sign: () => good.sign('something else') }],
    ['is another key of the same name', { ...testSigner('test-1', 5) }],
    ['has no published key', testSigner('unknown-1', 6)],
    [
      'returns no signature',
      { ...good, sign: () => Promise.resolve({ signature: 'test-1:AAAA' }) },
    ],
    [
      'brings a line of its own',
      {
        ...good,
        sign: async (text) => ({ signature: `${(await good.sign(text)).signature}\nStorePath: x` }),
      },
    ],
  ];
  for (const [about, signer] of liars) {
    it(`publishes nothing with a signer that ${about}, and keeps the staged batch`, async () => {
      const cache = createTestCache();
      const id = await cache.stage([glibc]);
      for (const signers of [[signer], [good, signer]]) {
        const publisher = cache.publisher({ signers });
        await assert.rejects(cache.publish(id, publisher), { code: 'wrong-key' });
        cache.advance(3_600_000);
      }
      assert.equal(await cache.public.head(narInfoKey(storeHash(glibc.info.path))), null);
      assert.equal((await listKeys(cache.staging, 'staging/')).length, 2);
      assert.deepEqual(await listKeys(cache.private, 'audit/'), []);
      await cache.publish(id);
      assert.equal((await cache.receipt(id.upload, glibc.info))?.status, 'published');
      await check(cache);
    });
  }

  it('waits for a signer that is down', async () => {
    const cache = createTestCache();
    const id = await cache.stage([glibc]);
    const down = { ...good, sign: () => Promise.reject(new Error('KMS is down')) };
    await assert.rejects(cache.publish(id, cache.publisher({ signers: [down] })), /KMS is down/);
    assert.equal((await cache.publish(id))[0]?.outcome.status, 'published');
  });
});
