import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { constants, zstdCompressSync } from 'node:zlib';
import { stagedNarsKey } from '../../../../core/cache/layout.ts';
import { formatManifest } from '../../../../core/cache/manifest.ts';
import { corpus, corpusMissing } from '../../../support/assert/corpus.ts';
import { checkInvariants } from '../../../support/cache/invariants.ts';
import { createTestCache } from '../../../support/cache/kit.ts';
import type { TestCache } from '../../../support/cache/kit.ts';
import { claimOf, fileNar, inventedPath, testPath } from '../../../support/cache/paths.ts';
import type { TestPath } from '../../../support/cache/paths.ts';
import type { Bucket } from '../../../../core/storage/bucket.ts';
import type { Receipt } from '../../../../core/cache/receipts/receipts.ts';
import type { PathInfo } from '../../../../core/nix/path-info.ts';

const data = corpus();

/** Publishes one path and returns its receipt's code, or `published`. */
async function verdict(cache: TestCache, { info, nar }: TestPath): Promise<string> {
  const id = await cache.stage([{ info, nar }]);
  await cache.publish(id);
  const receipt = (await cache.receipt(id.upload, info)) ?? (await cache.receipt(id.upload, 0));
  return receipt?.code ?? receipt?.status ?? 'no receipt';
}

/** Stages these bytes under this claim without checking them, and returns the path's receipt. */
async function publishStaged(
  cache: TestCache,
  info: PathInfo,
  nars: Uint8Array | null,
  encoding: 'none' | 'zstd' = 'none',
): Promise<Receipt | null> {
  const id = await cache.stageRaw(formatManifest({ encoding, paths: [info] }), nars, { encoding });
  await cache.publish(id);
  return cache.receipt(id.upload, info);
}

/** Does the same as {@link publishStaged}, and returns the receipt's code, or else its status. */
async function staged(...staging: Parameters<typeof publishStaged>): Promise<string> {
  const receipt = await publishStaged(...staging);
  return receipt?.code ?? receipt?.status ?? 'no receipt';
}

function assertNothingVisible(cache: TestCache): void {
  assert.deepEqual([...cache.publicStore.objects.keys()], []);
}

describe('the NARs of the corpus', { skip: data === null ? corpusMissing : false }, () => {
  const nars = (data?.entries('nar/') ?? []).filter(({ path }) => path.endsWith('.nar'));

  it('are rejected if they are invalid, and leave nothing', async () => {
    const invalid = nars.filter(({ expected }) => expected.startsWith('INVALID'));
    assert.ok(invalid.length >= 50);
    for (const { path } of invalid) {
      const cache = createTestCache();
      const nar = data!.read(path);
      const got = await verdict(cache, { info: claimOf(inventedPath('invalid'), nar), nar });
      // A NAR has at least 96 bytes, so a manifest with shorter ones is refused.
      assert.equal(got, nar.length < 96 ? 'malformed-manifest' : 'malformed-nar', path);
      assertNothingVisible(cache);
    }
  });

  it('are rejected if current Nix rejects them, although older Nix accepts them', async () => {
    for (const { path } of nars.filter((entry) => entry.path.startsWith('nar/crafted/edge/'))) {
      const cache = createTestCache();
      const nar = data!.read(path);
      const got = await verdict(cache, { info: claimOf(inventedPath('edge'), nar), nar });
      assert.equal(got, 'malformed-nar', path);
      assertNothingVisible(cache);
    }
  });

  it('are published if they are valid', async () => {
    const cache = createTestCache();
    for (const { path } of nars.filter(({ expected }) => expected.startsWith('valid'))) {
      const nar = data!.read(path);
      const info = claimOf(inventedPath(path.replaceAll('/', '-')), nar);
      assert.equal(await verdict(cache, { info, nar }), 'published', path);
    }
    await checkInvariants({ ...cache, publicKeys: cache.config.publicKeys });
  });
});

describe('staged NARs that differ from their manifest', () => {
  it('are rejected, each with its code', async () => {
    const { info, nar } = await testPath('hello');
    const other = await fileNar('the contents of hellO');
    const twice = Buffer.concat([nar, nar]);
    const cases: [string, PathInfo, Uint8Array | null, string][] = [
      ['missing', info, null, 'missing-nar'],
      ['empty', info, Buffer.alloc(0), 'nar-size-mismatch'],
      ['truncated', info, nar.subarray(0, 100), 'nar-size-mismatch'],
      ['one byte short', info, nar.subarray(0, -1), 'nar-size-mismatch'],
      ['other contents', info, other, 'nar-hash-mismatch'],
      ['no NAR', info, Buffer.alloc(info.narSize, 'x'), 'malformed-nar'],
      ['claimed larger', { ...info, narSize: info.narSize + 8 }, nar, 'nar-size-mismatch'],
      ['claimed smaller', { ...info, narSize: info.narSize - 8 }, nar, 'malformed-nar'],
      ['two in one', { ...info, narSize: twice.length }, twice, 'malformed-nar'],
    ];
    for (const [about, claim, nars, code] of cases) {
      for (const kind of ['none', 'zstd'] as const) {
        const cache = createTestCache({ config: { compression: { kind, level: 3 } } });
        assert.equal(await staged(cache, claim, nars), code, about);
        assertNothingVisible(cache);
      }
    }
  });

  it('may be followed by unclaimed bytes, which are not read', async () => {
    const cache = createTestCache();
    const { info, nar } = await testPath('hello');
    assert.equal(await staged(cache, info, Buffer.concat([nar, nar])), 'published');
    await checkInvariants({ ...cache, publicKeys: cache.config.publicKeys });
  });

  it('do not keep the rest of their batch from being published', async () => {
    const cache = createTestCache();
    const [one, two, three] = [
      await testPath('one'),
      await testPath('two'),
      await testPath('three'),
    ];
    const lie = { ...two, info: { ...two.info, narHash: one.info.narHash } };
    const published = await cache.publish(await cache.stage([one, lie, three]));
    assert.deepEqual(
      published.map(({ outcome }) => outcome.code ?? outcome.status),
      ['published', 'nar-hash-mismatch', 'published'],
    );
  });
});

/** Returns a zstd frame of one raw block that needs a window of 2^`windowLog` bytes. */
function rawFrame(contents: Buffer, windowLog: number): Buffer {
  const header = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, (windowLog - 10) << 3, 0, 0, 0]);
  header.writeUIntLE((contents.length << 3) | 1, 6, 3);
  return Buffer.concat([header, contents]);
}

describe('NARs staged as zstd', () => {
  it('are published, in one frame or in many', async () => {
    const cache = createTestCache();
    const { info, nar } = await testPath('one-frame');
    assert.equal(await staged(cache, info, zstdCompressSync(nar), 'zstd'), 'published');
    const more = await testPath('more');
    const frames = [more.nar.subarray(0, 50), more.nar.subarray(50)].map((b) =>
      zstdCompressSync(b),
    );
    assert.equal(await staged(cache, more.info, Buffer.concat(frames), 'zstd'), 'published');
  });

  it('are rejected if they are not zstd, damaged, cut or short', async () => {
    const { info, nar } = await testPath('hello');
    const whole = zstdCompressSync(nar, { params: { [constants.ZSTD_c_checksumFlag]: 1 } });
    const damaged = Buffer.from(whole);
    damaged[30]! ^= 0xff;
    const cases: [Uint8Array | null, RegExp][] = [
      [null, /^missing-nar$/],
      [nar, /^malformed-nar$/],
      [damaged, /^malformed-nar$|^nar-hash-mismatch$/],
      [whole.subarray(0, -8), /^malformed-nar$|^nar-size-mismatch$/],
      [Buffer.alloc(0), /^malformed-nar$|^nar-size-mismatch$/],
      [zstdCompressSync(nar.subarray(0, -8)), /^malformed-nar$|^nar-size-mismatch$/],
    ];
    for (const [nars, code] of cases) {
      const cache = createTestCache();
      assert.match(await staged(cache, info, nars, 'zstd'), code);
      assertNothingVisible(cache);
    }
  });

  it('may need a window of 8 MiB and no more', async () => {
    const cache = createTestCache();
    const { info, nar } = await testPath('hello');
    assert.equal(await staged(cache, info, rawFrame(nar, 24), 'zstd'), 'malformed-nar');
    assertNothingVisible(cache);
    assert.equal(await staged(cache, info, rawFrame(nar, 23), 'zstd'), 'published');
  });

  it('are rejected when they are mostly frames or blocks of next to nothing', async () => {
    const { info, nar } = await testPath('small-pieces', { contents: 'x'.repeat(2 ** 22) });
    const frames = Array.from({ length: 400 }, (_, at) =>
      zstdCompressSync(nar.subarray(at, at + 1)),
    );
    const emptyBlocks = Buffer.concat([
      Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, 13 << 3]),
      Buffer.alloc(3_200_000),
    ]);
    const skippable = Buffer.from([0x50, 0x2a, 0x4d, 0x18, 0, 0, 0x80, 0]);
    for (const [nars, reason] of [
      [[...frames, zstdCompressSync(nar.subarray(400))], /too many small zstd frames/],
      [[emptyBlocks], /too many small zstd blocks/],
      [[skippable, Buffer.alloc(2 ** 23), zstdCompressSync(nar)], /expected at most \d+ bytes/],
    ] as const) {
      const cache = createTestCache();
      const receipt = await publishStaged(cache, info, Buffer.concat(nars), 'zstd');
      assert.equal(receipt?.code, 'malformed-nar');
      assert.match(receipt.message ?? '', reason);
      assertNothingVisible(cache);
    }
    const fine = [...frames.slice(0, 300), zstdCompressSync(nar.subarray(300))];
    assert.equal(await staged(createTestCache(), info, Buffer.concat(fine), 'zstd'), 'published');
  });

  it('are decompressed only up to the claimed size', async () => {
    const cache = createTestCache();
    const { info, nar } = await testPath('hello');
    // 16 GiB of zeros in 512 KiB, after a NAR and in place of one.
    const bomb = zeros(1024);
    const afterNar = Buffer.concat([zstdCompressSync(nar), bomb]);
    for (const [nars, expected] of [
      [afterNar, 'published'],
      [bomb, 'malformed-nar'],
    ] as const) {
      const claim = expected === 'published' ? info : claimOf(inventedPath('bomb'), nar);
      const manifest = formatManifest({ encoding: 'zstd', paths: [claim] });
      const id = await cache.stageRaw(manifest, nars, { encoding: 'zstd' });
      const reading = countedReads(cache.staging, stagedNarsKey(id, 'zstd'));
      const [only] = await cache.publish(id, cache.publisher({ staging: reading.bucket }));
      assert.equal(only?.outcome.code ?? only?.outcome.status, expected);
      assert.ok(reading.bytes() < nars.length / 2, `${reading.bytes()} of ${nars.length}`);
    }
  });

  it('are decompressed to 64 MiB and 256 times their size at most', async () => {
    const cache = createTestCache();
    const start = await startOfZeros(2 ** 34);
    const claim = {
      ...claimOf(inventedPath('zeros'), start),
      narSize: start.length + 2 ** 34 + 16,
    };
    const nars = Buffer.concat([zstdCompressSync(start), zeros(1024)]);
    const receipt = await publishStaged(cache, claim, nars, 'zstd');
    assert.equal(receipt?.code, 'malformed-nar');
    assert.match(receipt.message ?? '', /expected at most 256 times/);
    const fits = await testPath('zeros-that-fit', { contents: Buffer.alloc(60 * 1024 * 1024) });
    assert.equal(
      await staged(createTestCache(), fits.info, zstdCompressSync(fits.nar), 'zstd'),
      'published',
    );
  });

  it('are not read if their claimed size is too large for the cache', async () => {
    const cache = createTestCache({ config: { limits: { maxNarBytes: 1000 } } });
    const info = { ...claimOf(inventedPath('huge'), Buffer.alloc(0)), narSize: 1001 };
    assert.equal(await staged(cache, info, null, 'zstd'), 'too-large');
    const fits = await testPath('fits', { contents: 'x'.repeat(1000 - 112) });
    assert.equal(fits.nar.length, 1000);
    assert.equal(await verdict(cache, fits), 'published');
  });
});

/** Returns zstd frames of `count` times 16 MiB of zeros. */
function zeros(count: number): Buffer {
  const frame = zstdCompressSync(Buffer.alloc(16 * 1024 * 1024));
  return Buffer.concat(Array.from({ length: count }, () => frame));
}

/** Returns the bytes before the contents in the NAR of a file of `size` bytes. */
async function startOfZeros(size: number): Promise<Buffer> {
  const nar = await fileNar('\0');
  const start = nar.subarray(0, nar.lastIndexOf('contents') + 16);
  start.writeBigUInt64LE(BigInt(size), start.length - 8);
  return start;
}

/** Wraps `bucket` and counts the bytes that are read from the object `key`. */
function countedReads(bucket: Bucket, key: string): { bucket: Bucket; bytes: () => number } {
  let bytes = 0;
  const get: Bucket['get'] = async (wanted, options) => {
    const found = await bucket.get(wanted, options);
    if (!found || wanted !== key) return found;
    async function* counted(): AsyncGenerator<Uint8Array> {
      for await (const chunk of found!.body) {
        for (let at = 0; at < chunk.length; at += 4096) {
          bytes += Math.min(4096, chunk.length - at);
          yield chunk.subarray(at, at + 4096);
        }
      }
    }
    return { ...found, body: counted() };
  };
  return { bucket: { ...bucket, get }, bytes: () => bytes };
}
