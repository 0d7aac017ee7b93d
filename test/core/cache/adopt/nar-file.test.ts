import assert from 'node:assert/strict';
import { test } from 'node:test';
import { brotliCompressSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { openNarFile } from '../../../../core/cache/adopt/nar-file.ts';
import { collect } from '../../../support/assert/bytes.ts';
import { memoryBucket } from '../../../support/buckets/memory-bucket.ts';

const contents = Buffer.from('hello niche\n');
/** Made by xz 5.8 with `xz -9`. */
const xz = Buffer.from(
  '/Td6WFoAAATm1rRGAgAhARwAAAAQz1jMAQALaGVsbG8gbmljaGUKANCre1SEV6x3AAEkDKYY2NgftvN9AQAAAAAEWVo=',
  'base64',
);
const files: Readonly<Record<string, Buffer>> = {
  none: contents,
  zstd: zstdCompressSync(contents),
  xz,
  gzip: gzipSync(contents),
  br: brotliCompressSync(contents),
};

async function read(file: Uint8Array, compression: string): Promise<Buffer> {
  const bucket = memoryBucket();
  await bucket.put('nar/file', file);
  return collect(openNarFile(bucket, { path: '/nix/store/x', url: 'nar/file', compression }));
}

test('a NAR is decompressed from every common compression', async () => {
  for (const [compression, file] of Object.entries(files)) {
    assert.deepEqual(await read(file, compression), contents, compression);
  }
  // One after the other, and at once.
  const all = await Promise.all(Array.from({ length: 5 }, () => read(xz, 'xz')));
  assert.ok(all.every((each) => each.equals(contents)));
});

test('a truncated or damaged file is refused, and the next one is read', async () => {
  for (const [compression, file] of Object.entries(files)) {
    if (compression === 'none') continue;
    for (const bad of [file.subarray(0, 10), file.subarray(0, 0), Buffer.from('not compressed')]) {
      const reading = read(bad, compression).then((got) => {
        // Some decoders read an empty file as empty contents, which is no NAR.
        assert.equal(got.length, 0);
        throw Object.assign(new Error('empty'), { code: 'unreadable-nar' });
      });
      await assert.rejects(reading, { code: 'unreadable-nar' }, compression);
    }
    assert.deepEqual(await read(file, compression), contents);
  }
});

test('a reader that stops early does not block the next one', async () => {
  const bucket = memoryBucket();
  await bucket.put('nar/file', xz);
  for (let time = 0; time < 3; time += 1) {
    for await (const chunk of openNarFile(bucket, {
      ...{ path: '/nix/store/x', url: 'nar/file', compression: 'xz' },
    })) {
      assert.ok(chunk.length >= 0);
      break;
    }
  }
  assert.deepEqual(await read(xz, 'xz'), contents);
});
