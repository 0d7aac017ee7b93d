import assert from 'node:assert/strict';
import { test } from 'node:test';
import { zstdCompressSync } from 'node:zlib';
import { listingKey, narInfoKey } from '../../../../core/cache/layout.ts';
import type { Finding } from '../../../../core/cache/verify/finding.ts';
import { verifyCache } from '../../../../core/cache/verify/verify.ts';
import type { VerifyOptions, VerifyReport } from '../../../../core/cache/verify/verify.ts';
import { isNicheError } from '../../../../core/errors.ts';
import { fingerprint } from '../../../../core/nix/fingerprint.ts';
import {
  formatPublicKey,
  generateSecretKey,
  parseSecretKey,
  signFingerprint,
} from '../../../../core/nix/keys.ts';
import { formatNarInfo, parseNarInfo } from '../../../../core/nix/narinfo.ts';
import type { NarInfo } from '../../../../core/nix/narinfo.ts';
import { storeHash } from '../../../../core/nix/store-path.ts';
import type { Bucket } from '../../../../core/storage/bucket.ts';
import { collect, listKeys, patternBytes, readObject } from '../../../support/assert/bytes.ts';
import { faultyBucket } from '../../../support/buckets/faulty-bucket.ts';
import { memoryBucket } from '../../../support/buckets/memory-bucket.ts';
import {
  makeBucketCache,
  localTestPath,
  testPublicKey,
  testSecretKey,
} from '../../../support/cache/bucket-cache.ts';
import type { BucketCache, LocalTestPath } from '../../../support/cache/bucket-cache.ts';
import { selfReferringFile } from '../../../support/cache/paths.ts';
import type { TestPath } from '../../../support/cache/paths.ts';

interface Verified extends VerifyReport {
  readonly findings: readonly Finding[];
}

async function verify(cache: BucketCache, changes: Partial<VerifyOptions> = {}): Promise<Verified> {
  const findings: Finding[] = [];
  const report = await verifyCache({
    reader: cache.public,
    private: cache.private,
    storeDir: cache.config.storeDir,
    publicKeys: cache.config.publicKeys,
    upstreams: cache.upstreams,
    selection: { all: cache.public },
    onFinding: (finding) => findings.push(finding),
    ...changes,
  });
  return { ...report, findings };
}

/** Returns `kind code subject` of each finding, sorted. */
function brief({ findings }: Verified): string[] {
  return findings.map(({ kind, code, subject }) => `${kind} ${code} ${subject}`).sort();
}

const lib = await localTestPath('lib', [], patternBytes(200_000));
const app = await localTestPath('app', [lib]);

function toLocal({ info, nar }: TestPath): LocalTestPath {
  return {
    hash: storeHash(info.path),
    path: info.path,
    info,
    async *openNar() {
      yield await Promise.resolve(nar);
    },
  };
}

async function goodCache(compression: 'zstd' | 'none' = 'zstd'): Promise<BucketCache> {
  const cache = await makeBucketCache(memoryBucket(), { compression });
  await cache.publish(lib, app);
  return cache;
}

async function text(bucket: Bucket, key: string): Promise<string> {
  const bytes = await readObject(bucket, key);
  assert.ok(bytes, `${key} is there`);
  return bytes.toString();
}

async function narInfoOf(cache: BucketCache, { hash }: LocalTestPath): Promise<NarInfo> {
  return parseNarInfo(await text(cache.public, narInfoKey(hash)));
}

/** Rewrites a narinfo, signed or not, unlike any publisher. */
async function changeNarInfo(
  cache: BucketCache,
  path: LocalTestPath,
  change: (info: NarInfo) => Partial<NarInfo>,
): Promise<void> {
  const info = await narInfoOf(cache, path);
  const changed = formatNarInfo({ ...info, ...change(info) });
  await cache.public.put(narInfoKey(path.hash), Buffer.from(changed));
}

function signed(info: NarInfo, secretKey = parseSecretKey(testSecretKey)): NarInfo {
  return { ...info, signatures: [signFingerprint(fingerprint(info), secretKey)] };
}

async function changeNar(
  cache: BucketCache,
  path: LocalTestPath,
  change: (file: Buffer) => Uint8Array,
): Promise<void> {
  const { url } = await narInfoOf(cache, path);
  const file = await readObject(cache.public, url);
  assert.ok(file);
  await cache.public.put(url, change(file));
}

function flipped(file: Buffer, at: number): Buffer {
  const copy = Buffer.from(file);
  copy.writeUInt8(copy.readUInt8(at) ^ 1, at);
  return copy;
}

test('published paths have no findings', async () => {
  for (const compression of ['zstd', 'none'] as const) {
    const cache = await goodCache(compression);
    assert.deepEqual(await verify(cache), {
      findings: [],
      paths: 2,
      narBytes: lib.info.narSize + app.info.narSize,
      realisations: 0,
      audited: true,
    });
  }
});

test('a content-addressed path that refers to itself has a note about the readers of its form', async () => {
  for (const [form, readers] of [
    ['positions', /; Nix before 2\.17, and from 2\.35, can install it$/],
    ['no-positions', /; only Nix 2\.17 to 2\.34 can install it$/],
  ] as const) {
    const cache = await makeBucketCache(memoryBucket());
    const self = await selfReferringFile('self', [], form);
    await cache.publish(toLocal(self));
    const { findings } = await verify(cache);
    assert.equal(findings.length, 1);
    assert.partialDeepStrictEqual(findings[0], {
      kind: 'note',
      subject: self.info.path,
      code: 'self-references',
    });
    assert.match(findings[0]!.message, readers);
  }
});

test('an empty cache has no findings', async () => {
  const cache = await makeBucketCache(memoryBucket());
  assert.deepEqual(await verify(cache), {
    findings: [],
    paths: 0,
    narBytes: 0,
    realisations: 0,
    audited: true,
  });
});

/** Changes to a valid cache, with the expected findings. */
const damages: Readonly<
  Record<string, { harm: (cache: BucketCache) => Promise<unknown>; found: readonly string[] }>
> = {
  'a byte of a compressed NAR is flipped': {
    harm: (cache) => changeNar(cache, lib, (file) => flipped(file, file.length >> 1)),
    found: [`wrong file-hash-mismatch ${lib.path}`, `wrong nar-hash-mismatch ${lib.path}`],
  },
  'the magic number of a compressed NAR is flipped': {
    harm: (cache) => changeNar(cache, lib, (file) => flipped(file, 0)),
    found: [`wrong damaged-file ${lib.path}`, `wrong file-hash-mismatch ${lib.path}`],
  },
  'a compressed NAR is cut short': {
    harm: (cache) => changeNar(cache, lib, (file) => file.subarray(0, -1)),
    found: [`wrong damaged-file ${lib.path}`, `wrong file-size-mismatch ${lib.path}`],
  },
  'a NAR is empty': {
    harm: (cache) => changeNar(cache, lib, () => new Uint8Array()),
    found: [`wrong file-size-mismatch ${lib.path}`, `wrong nar-size-mismatch ${lib.path}`],
  },
  'a NAR has a byte more': {
    harm: (cache) => changeNar(cache, lib, (file) => Buffer.concat([file, Buffer.alloc(1)])),
    found: [`wrong damaged-file ${lib.path}`, `wrong file-size-mismatch ${lib.path}`],
  },
  'a NAR is replaced by one that decompresses to far more': {
    harm: (cache) => changeNar(cache, lib, () => zstdCompressSync(Buffer.alloc(50_000_000))),
    found: [`wrong file-size-mismatch ${lib.path}`, `wrong nar-size-mismatch ${lib.path}`],
  },
  'a NAR is compressed again, with the same contents': {
    harm: (cache) =>
      changeNar(cache, lib, (file) => Buffer.concat([file, zstdCompressSync(Buffer.alloc(0))])),
    found: [`wrong file-size-mismatch ${lib.path}`],
  },
  'a NAR is another path’s': {
    harm: async (cache) => {
      const { url, fileHash, fileSize } = await narInfoOf(cache, lib);
      await changeNarInfo(cache, app, () => ({ url, fileHash, fileSize }));
    },
    found: [`wrong nar-size-mismatch ${app.path}`],
  },
  'a NAR is missing': {
    harm: async (cache) => cache.public.delete([(await narInfoOf(cache, lib)).url]),
    found: [`wrong missing-nar ${lib.path}`],
  },
  'FileHash is another': {
    harm: (cache) => changeNarInfo(cache, lib, () => ({ fileHash: app.info.narHash })),
    found: [`wrong file-hash-mismatch ${lib.path}`],
  },
  'FileSize is another': {
    harm: (cache) =>
      changeNarInfo(cache, lib, ({ fileSize }) => ({ fileSize: (fileSize ?? 0) + 1 })),
    found: [`wrong file-size-mismatch ${lib.path}`],
  },
  'FileSize is less than there is': {
    harm: (cache) => changeNarInfo(cache, lib, () => ({ fileSize: 10 })),
    found: [`wrong file-size-mismatch ${lib.path}`],
  },
  'a NAR is followed by more than any NAR could need': {
    harm: (cache) =>
      changeNar(cache, lib, (file) => Buffer.concat([file, Buffer.alloc(3_000_000)])),
    found: [`wrong damaged-file ${lib.path}`, `wrong file-size-mismatch ${lib.path}`],
  },
  'FileHash is missing': {
    harm: (cache) => changeNarInfo(cache, lib, () => ({ fileHash: null })),
    found: [`warning missing-file-hash ${lib.path}`],
  },
  'NarHash is another, with a good signature': {
    harm: (cache) =>
      changeNarInfo(cache, lib, (info) => signed({ ...info, narHash: app.info.narHash })),
    found: [`wrong missing-audit ${lib.path}`, `wrong nar-hash-mismatch ${lib.path}`],
  },
  'a narinfo has no signature': {
    harm: (cache) => changeNarInfo(cache, app, () => ({ signatures: [] })),
    found: [`wrong unsigned ${app.path}`],
  },
  'a narinfo is signed by another key only': {
    harm: (cache) =>
      changeNarInfo(cache, app, (info) => signed(info, generateSecretKey('other-1'))),
    found: [`warning unknown-signature ${app.path}`, `wrong unsigned ${app.path}`],
  },
  'a narinfo is signed by another key of the same name': {
    harm: (cache) => changeNarInfo(cache, app, (info) => signed(info, generateSecretKey('test-1'))),
    found: [`wrong bad-signature ${app.path}`, `wrong unsigned ${app.path}`],
  },
  'a narinfo has a signature more, by a key that is not known': {
    harm: (cache) =>
      changeNarInfo(cache, app, (info) => ({
        signatures: [...info.signatures, ...signed(info, generateSecretKey('other-1')).signatures],
      })),
    found: [`warning unknown-signature ${app.path}`],
  },
  'a signature is none at all': {
    harm: async (cache) => {
      const narInfo = await text(cache.public, narInfoKey(app.hash));
      await cache.public.put(narInfoKey(app.hash), Buffer.from(`${narInfo}Sig: test-1:what\n`));
    },
    found: [`wrong bad-signature ${app.path}`],
  },
  'references are others than were signed': {
    harm: (cache) => changeNarInfo(cache, app, () => ({ references: [] })),
    found: [`wrong bad-signature ${app.path}`, `wrong unsigned ${app.path}`],
  },
  'a reference is not there': {
    harm: (cache) => cache.public.delete([narInfoKey(lib.hash)]),
    found: [`wrong missing-reference ${app.path}`],
  },
  'a reference’s narinfo is damaged': {
    harm: (cache) => cache.public.put(narInfoKey(lib.hash), Buffer.from('what\n')),
    found: [
      `wrong malformed-narinfo ${narInfoKey(lib.hash)}`,
      `wrong missing-reference ${app.path}`,
    ],
  },
  'a reference is signed by nobody': {
    harm: (cache) => changeNarInfo(cache, lib, () => ({ signatures: [] })),
    found: [`wrong missing-reference ${app.path}`, `wrong unsigned ${lib.path}`],
  },
  'a narinfo lies under another hash': {
    harm: async (cache) => {
      const narInfo = await text(cache.public, narInfoKey(lib.hash));
      await cache.public.put(narInfoKey(app.hash), Buffer.from(narInfo));
    },
    found: [`wrong misplaced-narinfo ${narInfoKey(app.hash)}`],
  },
  'an audit record is missing': {
    harm: async (cache) => {
      for (const key of await listKeys(cache.private, 'audit/')) {
        const lines = (await text(cache.private, key)).split('\n');
        const others = lines.filter((line) => !line.includes(`"path":"${app.path}"`));
        await cache.private.put(key, Buffer.from(others.join('\n')));
      }
    },
    found: [`wrong missing-audit ${app.path}`],
  },
  'an audit record is of another path': {
    harm: async (cache) => {
      for (const key of await listKeys(cache.private, 'audit/')) {
        const record = (await text(cache.private, key)).replace(
          `"path":"${app.path}"`,
          `"path":"${app.path}-2"`,
        );
        await cache.private.put(key, Buffer.from(record));
      }
    },
    found: [`wrong missing-audit ${app.path}`],
  },
  'a blocked path is visible': {
    harm: (cache) => cache.private.put(`blocked/${app.hash}`, new Uint8Array()),
    found: [`wrong blocked-but-visible ${app.path}`],
  },
  'a blocked path is referred to': {
    harm: async (cache) => {
      await cache.private.put(`blocked/${lib.hash}`, new Uint8Array());
      await cache.public.delete([narInfoKey(lib.hash)]);
    },
    found: [`wrong missing-reference ${app.path}`],
  },
  'a listing is missing': {
    harm: (cache) => cache.public.delete([listingKey(lib.hash)]),
    found: [`warning missing-listing ${lib.path}`],
  },
  'a listing is of another NAR': {
    harm: async (cache) =>
      cache.public.put(
        listingKey(lib.hash),
        Buffer.from(await text(cache.public, listingKey(app.hash))),
      ),
    found: [`wrong wrong-listing ${lib.path}`],
  },
  'a listing is no JSON': {
    harm: (cache) => cache.public.put(listingKey(lib.hash), Buffer.from('{')),
    found: [`wrong wrong-listing ${lib.path}`],
  },
  'a listing is endless': {
    harm: (cache) => cache.public.put(listingKey(lib.hash), Buffer.alloc(2 << 20, ' ')),
    found: [`wrong wrong-listing ${lib.path}`],
  },
  'a listing has white space': {
    harm: async (cache) => {
      const listing: unknown = JSON.parse(await text(cache.public, listingKey(lib.hash)));
      await cache.public.put(listingKey(lib.hash), Buffer.from(JSON.stringify(listing, null, 2)));
    },
    found: [],
  },
  'a NAR is compressed as niche cannot read it': {
    harm: (cache) => changeNarInfo(cache, lib, () => ({ compression: 'xz' })),
    found: [`unchecked unsupported-compression ${lib.path}`],
  },
  'a URL leads out of the cache': {
    harm: (cache) => changeNarInfo(cache, lib, () => ({ url: '../elsewhere.nar' })),
    found: [`wrong bad-url ${lib.path}`],
  },
  'a URL leads to another host': {
    harm: (cache) => changeNarInfo(cache, lib, () => ({ url: 'http://127.0.0.1/x.nar' })),
    found: [`wrong bad-url ${lib.path}`],
  },
  'a narinfo is cut short': {
    harm: async (cache) => {
      const narInfo = await text(cache.public, narInfoKey(app.hash));
      await cache.public.put(narInfoKey(app.hash), Buffer.from(narInfo.slice(0, 100)));
    },
    found: [`wrong malformed-narinfo ${narInfoKey(app.hash)}`],
  },
  'nix-cache-info is missing': {
    harm: (cache) => cache.public.delete(['nix-cache-info']),
    found: ['wrong missing-cache-info nix-cache-info'],
  },
  'nix-cache-info is of another store': {
    harm: (cache) => cache.public.put('nix-cache-info', Buffer.from('StoreDir: /gnu/store\n')),
    found: ['wrong wrong-store-dir nix-cache-info'],
  },
  'nix-cache-info is damaged': {
    harm: (cache) => cache.public.put('nix-cache-info', Buffer.from('Priority: high\n')),
    found: ['wrong malformed-cache-info nix-cache-info'],
  },
};

for (const [about, { harm, found }] of Object.entries(damages)) {
  test(`found: ${about}`, async () => {
    const cache = await goodCache();
    await harm(cache);
    const verified = await verify(cache);
    assert.deepEqual(brief(verified), found, JSON.stringify(verified.findings, null, 2));
  });
}

test('an unreadable audit record is reported', async () => {
  const cache = await goodCache();
  const [key = ''] = await listKeys(cache.private, 'audit/');
  await cache.private.put(key, Buffer.from('{"path":1}\n'));
  const found = brief(await verify(cache));
  assert.deepEqual(found.toSorted(), [
    `wrong malformed-audit ${key}`,
    ...[app.path, lib.path].map((path) => `wrong missing-audit ${path}`).sort(),
  ]);
});

test('a raw NAR that is cut short or flipped', async () => {
  const cut = await goodCache('none');
  await changeNar(cut, lib, (file) => file.subarray(0, 1000));
  assert.deepEqual(brief(await verify(cut)), [
    `wrong file-size-mismatch ${lib.path}`,
    `wrong nar-size-mismatch ${lib.path}`,
  ]);
  const flip = await goodCache('none');
  await changeNar(flip, lib, (file) => flipped(file, 8));
  assert.deepEqual(brief(await verify(flip)), [
    `wrong file-hash-mismatch ${lib.path}`,
    `wrong malformed-nar ${lib.path}`,
  ]);
});

test('messages contain the expected and the actual value', async () => {
  const cache = await goodCache();
  const { url, fileSize } = await narInfoOf(cache, lib);
  await changeNar(cache, lib, (file) => file.subarray(0, 40));
  await cache.public.delete([narInfoKey(app.hash)]);
  const { findings } = await verify(cache, {
    selection: { paths: [lib, app], closure: false },
    pathsAtOnce: 1,
  });
  const messages = findings.map(({ message }) => message);
  assert.match(messages[0] ?? '', new RegExp(`^${url} does not decompress as zstd: `));
  assert.deepEqual(messages.slice(1), [
    `${url}: expected ${fileSize} bytes, got 40`,
    `${narInfoKey(app.hash)} is missing`,
  ]);
});

test('only the given paths are read', async () => {
  const cache = await goodCache();
  await changeNar(cache, lib, (file) => flipped(file, 100));
  const selection = { paths: [app], closure: false };
  assert.deepEqual(brief(await verify(cache, { selection })), []);
  const closure = await verify(cache, { selection: { ...selection, closure: true } });
  assert.equal(closure.paths, 2);
  assert.ok(brief(closure).includes(`wrong file-hash-mismatch ${lib.path}`));
});

test('a given path that is missing or has another name', async () => {
  const cache = await goodCache();
  const other = await localTestPath('other');
  const { findings, paths } = await verify(cache, {
    selection: {
      paths: [other, { hash: app.hash, path: `${app.path}-2` }, { hash: lib.hash, path: null }],
      closure: true,
    },
  });
  assert.equal(paths, 3);
  assert.deepEqual(findings.map(({ code, subject }) => `${code} ${subject}`).sort(), [
    `missing-narinfo ${other.path}`,
    `wrong-store-path ${app.path}-2`,
  ]);
});

test('a closure with a cycle ends', async () => {
  const cache = await makeBucketCache(memoryBucket());
  const one = await localTestPath('one', [{ path: (await localTestPath('one')).path }]);
  await cache.publish(one);
  const verified = await verify(cache, { selection: { paths: [one], closure: true } });
  assert.deepEqual([verified.paths, verified.findings], [1, []]);
});

test('pinned keys count, not those of niche.json', async () => {
  const cache = await goodCache();
  const pinned = formatPublicKey(generateSecretKey('test-1').publicKey);
  const { findings } = await verify(cache, {
    publicKeys: [pinned],
    selection: { paths: [lib], closure: false },
  });
  assert.deepEqual(
    findings.map(({ code }) => code),
    ['unsigned', 'bad-signature'],
  );
  assert.ok(findings[0]?.message.includes(pinned));
  assert.deepEqual((await verify(cache, { publicKeys: [pinned, testPublicKey] })).findings, []);
});

test('references in an upstream count, when its key verifies them', async () => {
  const upstream = await makeBucketCache(memoryBucket({ url: 'memory:///upstream' }));
  await upstream.publish(lib);
  const open = { reader: upstream.public, publicKey: testPublicKey, url: 'https://up.example' };
  const cache = await makeBucketCache(memoryBucket(), { upstreams: [open] });
  await cache.publish(app);
  assert.deepEqual((await verify(cache)).findings, []);
  assert.equal(
    (await verify(cache, { selection: { paths: [app], closure: true } })).paths,
    1,
    'what is upstream is not this cache’s to verify',
  );

  await changeNarInfo(upstream, lib, (info) => signed(info, generateSecretKey('test-1')));
  const found = await verify(cache);
  assert.deepEqual(brief(found), [`wrong missing-reference ${app.path}`]);
  assert.match(
    found.findings[0]?.message ?? '',
    /it is not in this cache, and .*\.narinfo in memory:\/\/\/upstream is unusable: it has no valid signature/,
  );
});

test('an upstream that is down causes no finding, and is not requested forever', async () => {
  const upstream = await makeBucketCache(memoryBucket({ url: 'memory:///upstream' }));
  const libs = await Promise.all(['a', 'b', 'c', 'd', 'e'].map((name) => localTestPath(name)));
  await upstream.publish(...libs);
  let asked = 0;
  let isDown = false;
  const reader = faultyBucket(upstream.public, () => {
    asked += 1;
    return isDown ? 'unavailable' : undefined;
  });
  const open = { reader, publicKey: testPublicKey, url: 'https://up.example' };
  const cache = await makeBucketCache(memoryBucket(), { upstreams: [open] });
  const user = await localTestPath('user', libs);
  await cache.publish(user);
  isDown = true;
  asked = 0;
  const found = brief(await verify(cache));
  assert.deepEqual(found, Array(5).fill(`unchecked upstream-unavailable ${user.path}`));
  assert.equal(asked, 3);
});

test('storage that is down or denied is reported as unchecked', async () => {
  const cache = await goodCache();
  const { url } = await narInfoOf(cache, lib);
  const cases: readonly (readonly [Parameters<typeof faultyBucket>[1], readonly string[]])[] = [
    [
      (_, key) => (key === url ? 'unavailable' : undefined),
      [`unchecked storage-unavailable ${lib.path}`],
    ],
    [
      (_, key) => (key === url ? 'broken' : undefined),
      [`unchecked storage-unavailable ${lib.path}`],
    ],
    [(_, key) => (key === url ? 'denied' : undefined), [`unchecked storage-denied ${lib.path}`]],
    [
      (_, key) => (key === narInfoKey(lib.hash) ? 'denied' : undefined),
      [`unchecked storage-denied ${app.path}`, `unchecked storage-denied ${narInfoKey(lib.hash)}`],
    ],
  ];
  for (const [choose, found] of cases) {
    const reader = faultyBucket(cache.public, choose);
    assert.deepEqual(brief(await verify(cache, { reader })), found);
  }
});

test('without a private root, the audit log is not verified', async () => {
  const cache = await goodCache();
  await cache.private.delete(await listKeys(cache.private, 'audit/'));
  const without = await verify(cache, { private: null });
  assert.deepEqual([without.audited, without.findings], [false, []]);
  const denied = faultyBucket(cache.private, () => 'denied');
  const verified = await verify(cache, { private: denied });
  assert.deepEqual([verified.audited, verified.findings], [false, []]);
});

test('an audit log that is down is reported as unchecked, and a failed list ends the verification', async () => {
  const cache = await goodCache();
  const flaky = faultyBucket(cache.private, (operation, key) =>
    operation === 'list' && key === 'audit/' ? 'unavailable' : undefined,
  );
  const verified = await verify(cache, { private: flaky });
  assert.deepEqual(
    [verified.audited, brief(verified)],
    [false, ['unchecked storage-unavailable audit/']],
  );
  const unlisted = faultyBucket(cache.public, (operation) =>
    operation === 'list' ? 'unavailable' : undefined,
  );
  await assert.rejects(verify(cache, { selection: { all: unlisted } }), (error) =>
    isNicheError(error, 'storage-unavailable'),
  );
});

test('a path that is withdrawn during verification is no finding', async () => {
  const cache = await goodCache();
  const listed = {
    async *list(prefix: string) {
      yield* cache.public.list(prefix);
      await cache.public.delete([narInfoKey(app.hash)]);
    },
  };
  const reader = {
    ...cache.public,
    get: (key: string) =>
      key === narInfoKey(app.hash) ? Promise.resolve(null) : cache.public.get(key),
  };
  assert.deepEqual((await verify(cache, { reader, selection: { all: listed } })).findings, []);
});

test('no more paths are read at once than configured', async () => {
  const cache = await makeBucketCache(memoryBucket());
  const paths = await Promise.all(
    Array.from({ length: 12 }, (_, index) => localTestPath(`path-${index}`)),
  );
  await cache.publish(...paths);
  let open = 0;
  let most = 0;
  const reader = {
    ...cache.public,
    async get(key: string) {
      const object = await cache.public.get(key);
      if (!object || !key.startsWith('nar/')) return object;
      open += 1;
      most = Math.max(most, open);
      const bytes = await collect(object.body);
      return {
        ...object,
        body: (async function* () {
          yield await Promise.resolve(bytes);
          open -= 1;
        })(),
      };
    },
  };
  const seen: number[] = [];
  const verified = await verify(cache, {
    reader,
    pathsAtOnce: 3,
    onProgress: ({ paths: done }) => seen.push(done),
  });
  assert.deepEqual(verified.findings, []);
  assert.equal(most, 3);
  assert.equal(open, 0);
  assert.deepEqual(
    seen,
    Array.from({ length: 12 }, (_, index) => index + 1),
  );
});
