import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, it } from 'node:test';
import { maxSelfReferences } from '../../../../core/limits.ts';
import { formatContentAddress } from '../../../../core/nix/content-address.ts';
import { formatHash } from '../../../../core/nix/hash.ts';
import type { HashAlgorithm } from '../../../../core/nix/hash.ts';
import { parseNarInfo } from '../../../../core/nix/narinfo.ts';
import type { PathInfo } from '../../../../core/nix/path-info.ts';
import { computeCaPath, storeHash } from '../../../../core/nix/store-path.ts';
import { listingKey } from '../../../../core/cache/layout.ts';
import type { BatchId } from '../../../../core/cache/layout.ts';
import { parseNarClaim } from '../../../../core/cache/nar/claim.ts';
import { createContentAddressCheck } from '../../../../core/cache/nar/content-address.ts';
import { corpus, corpusMissing } from '../../../support/assert/corpus.ts';
import { checkInvariants } from '../../../support/cache/invariants.ts';
import { createTestCache } from '../../../support/cache/kit.ts';
import type { TestCache } from '../../../support/cache/kit.ts';
import {
  claimOf,
  contentAddressedFile,
  fileNar,
  inventedPath,
  narHashOf,
  selfReferringFile,
  testPath,
  treeNar,
} from '../../../support/cache/paths.ts';
import type { TestPath } from '../../../support/cache/paths.ts';
import { refuses } from '../../../support/assert/refuses.ts';

const algorithms: readonly HashAlgorithm[] = ['md5', 'sha1', 'sha256', 'sha512', 'blake3'];
const dep = await testPath('dep');
const other = await testPath('other');

async function verdict(cache: TestCache, path: TestPath): Promise<string> {
  const id = await cache.stage([path]);
  await cache.publish(id);
  const receipt = await cache.receipt(id.upload, path.info);
  return receipt?.code ?? receipt?.status ?? 'no receipt';
}

async function withDependencies(): Promise<TestCache> {
  const cache = createTestCache();
  await cache.publish(await cache.stage([dep, other]));
  return cache;
}

const change = (path: TestPath, info: Partial<PathInfo>): TestPath => ({
  nar: path.nar,
  info: { ...path.info, ...info },
});

/** Returns the path with other bytes: the claimed hash is right, the store path is not. */
const withNar = (path: TestPath, nar: Buffer): TestPath => ({
  nar,
  info: { ...path.info, narHash: narHashOf(nar), narSize: nar.length },
});

const right: [string, TestPath][] = [
  ['text', await contentAddressedFile('text', 'text', 'sha256')],
  [
    'text with references',
    await contentAddressedFile('x.drv', 'text', 'sha256', { references: [dep, other] }),
  ],
  [
    'nar with references',
    await contentAddressedFile('source', 'nar', 'sha256', { references: [dep] }),
  ],
  ['nar with a reference to itself', await selfReferringFile('self', [dep])],
  [
    'nar with a reference to itself, hashed without its position',
    await selfReferringFile('self', [dep], 'no-positions'),
  ],
  ['git sha1', await contentAddressedFile('git', 'git', 'sha1')],
  ['git sha256', await contentAddressedFile('git', 'git', 'sha256')],
];
for (const algorithm of algorithms) {
  right.push([`flat ${algorithm}`, await contentAddressedFile('flat', 'flat', algorithm)]);
  right.push([`nar ${algorithm}`, await contentAddressedFile('tree', 'nar', algorithm)]);
}

describe('a content-addressed path', () => {
  for (const [kind, path] of right) {
    it(`of the kind ${kind} is published if it matches, and rejected otherwise`, async () => {
      const cache = await withDependencies();
      const { info } = path;
      const more = [...info.references, other.info.path, inventedPath('more')];
      const wrong: [string, TestPath][] = [
        ['another name', change(path, { path: `${info.path}x` })],
        ['another hash in its name', change(path, { path: inventedPath('invented') })],
        ['other contents', withNar(path, await fileNar(`other ${info.references.join()}`))],
        ['references too many', change(path, { references: [...new Set(more)].sort() })],
        [
          'the reference to itself',
          change(path, {
            references: info.references.includes(info.path)
              ? info.references.filter((reference) => reference !== info.path)
              : [...info.references, info.path].sort(),
          }),
        ],
      ];
      // Before 2.16, Nix allowed it for these kinds, so the contents decide.
      const scanned = /^(flat|nar) (md5|sha1|sha512)$|^flat sha256$/.test(kind);
      for (const [about, bad] of wrong) {
        const isSelf = about === 'the reference to itself';
        const expected = scanned && isSelf ? 'unproven-reference' : 'ca-mismatch';
        assert.equal(await verdict(cache, bad), expected, about);
      }
      assert.equal(await verdict(cache, path), 'published');
      await checkInvariants({ ...cache, publicKeys: cache.config.publicKeys });
    });
  }

  it('must be one file, if it is flat or text', async () => {
    for (const method of ['flat', 'text'] as const) {
      const path = await contentAddressedFile('file', method, 'sha256');
      const contents = Buffer.from(`\ncontents of file`);
      const file = {
        type: 'regular',
        executable: false,
        size: contents.length,
        contents: () => contents,
      } as const;
      for (const nar of [
        await treeNar({ type: 'directory', entries: () => [['file', file]] }),
        await treeNar({ type: 'symlink', target: contents }),
        await treeNar({ type: 'directory', entries: () => [] }),
      ]) {
        assert.equal(await verdict(createTestCache(), withNar(path, nar)), 'ca-mismatch');
      }
    }
  });

  it('has the same listing as an input-addressed path', async () => {
    const contents = Buffer.from('contents');
    const file = { type: 'regular', executable: true, size: 8, contents: () => contents } as const;
    const tree = await treeNar({
      type: 'directory',
      entries: () => [
        ['bin', { type: 'directory', entries: () => [['run', file]] }],
        ['link', { type: 'symlink', target: contents }],
      ],
    });
    const digest = createHash('sha256').update(tree).digest();
    const address = { method: 'nar', hash: { algorithm: 'sha256', digest } } as const;
    const source = {
      info: {
        ...claimOf(computeCaPath(address, 'tree', [], false), tree),
        ca: formatContentAddress(address),
      },
      nar: tree,
    };
    for (const path of [source, await contentAddressedFile('file', 'flat', 'sha256')]) {
      const cache = createTestCache();
      const twin = { ...path, info: claimOf(inventedPath('twin'), path.nar) };
      await cache.publish(await cache.stage([path, twin]));
      const [listed, expected] = [path, twin].map(
        ({ info }) => cache.publicStore.objects.get(listingKey(storeHash(info.path)))?.bytes,
      );
      assert.ok(expected);
      assert.deepEqual(listed, expected);
    }
  });

  it('is rejected as unsupported if its kind is unknown', async () => {
    const digest = new Uint8Array(32);
    const sha256 = formatHash({ algorithm: 'sha256', digest }, 'base32');
    for (const ca of [
      `text:sha1:${'0'.repeat(32)}`,
      `text:blake3:${'0'.repeat(52)}`,
      `fixed:git:blake3:${'0'.repeat(52)}`,
      `fixed:r:r:${sha256}`,
      'something',
      '',
      'evil\nSig: x:y',
    ]) {
      const got = await verdict(createTestCache(), change(dep, { ca }));
      assert.equal(got, 'unsupported-ca', JSON.stringify(ca));
    }
    refuses('unsupported-ca', () => parseNarClaim({ ...dep.info, ca: 'x' }, '/nix/store'));
  });

  it('may mention paths that are not its references if it is text, as a .drv does', async () => {
    const mention = { contents: `${inventedPath('out')}/bin` };
    for (const [path, expected] of [
      [await contentAddressedFile('x.drv', 'text', 'sha256', mention), 'published'],
      [await contentAddressedFile('x', 'flat', 'sha256', mention), 'unclaimed-reference'],
    ] as const) {
      const cache = createTestCache({ config: { limits: { unclaimed: 'reject' } } });
      assert.equal(await verdict(cache, path), expected);
    }
  });

  it('has the same hash wherever its chunks are cut, if it refers to itself', async () => {
    for (const form of ['positions', 'no-positions'] as const) {
      const { info, nar } = await selfReferringFile('self', [dep], form);
      const claim = parseNarClaim(info, '/nix/store');
      assert.ok(claim.contentAddress);
      for (let size = 1; size < 70; size += 1) {
        const check = await createContentAddressCheck(claim, claim.contentAddress);
        for (let at = 0; at < nar.length; at += size) check.write(nar.subarray(at, at + size));
        assert.equal(check.verify(createHash('sha256').update(nar).digest()), form);
      }
    }
  });

  it('is too large when it refers to itself more often than the limit', async () => {
    const { info } = await selfReferringFile('self');
    const claim = parseNarClaim(info, '/nix/store');
    assert.ok(claim.contentAddress);
    const check = await createContentAddressCheck(claim, claim.contentAddress);
    const hash = storeHash(info.path);
    const piece = Buffer.alloc((32 * maxSelfReferences) / 100, hash);
    for (let count = 0; count < 100; count += 1) check.write(piece);
    check.write(Buffer.from('z'.repeat(32)));
    refuses('too-large', () => {
      check.write(Buffer.from(hash));
    });
  });
});

const data = corpus();
const folder = 'narinfo/binary-cache/nix-2.8-none/';

describe('a path made by real Nix', { skip: data === null ? corpusMissing : false }, () => {
  it('is published, content-addressed or not, and rejected with one byte changed', async () => {
    const cache = createTestCache();
    const all = (data?.entries(folder) ?? [])
      .filter(({ path }) => path.endsWith('.narinfo'))
      .map(({ path }) => parseNarInfo(data!.read(path).toString()))
      .map((info) => ({ info: { ...info, signatures: [] }, nar: data!.read(folder + info.url) }));
    assert.ok(all.some(({ info }) => info.ca !== null && info.references.includes(info.path)));
    const ids: BatchId[] = [];
    for (const path of all) ids.push(await cache.stage([path]));
    for (const id of ids) await cache.publish(id);
    for (const [index, { info }] of all.entries()) {
      const receipt = await cache.receipt(ids[index]!.upload, info);
      assert.equal(receipt?.status, 'published', `${info.path} ${receipt?.message ?? ''}`);
    }
    await checkInvariants({ ...cache, publicKeys: cache.config.publicKeys });

    for (const path of all.filter(({ info }) => info.ca !== null)) {
      const at = path.nar.lastIndexOf('.txt') + 1 || path.nar.length - 24;
      const nar = Buffer.from(path.nar);
      nar[at]! ^= 1;
      const got = await verdict(createTestCache(), withNar(path, nar));
      assert.match(got, /^(ca-mismatch|malformed-nar)$/, path.info.path);
    }
  });
});
