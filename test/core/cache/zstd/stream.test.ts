import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { constants, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { frameBytes } from '../../../../core/cache/zstd/frames.ts';
import { compressZstd, decompressZstd } from '../../../../core/cache/zstd/stream.ts';
import { createFrameParser } from '../../../../core/cache/zstd/frame-parser.ts';
import { collect, patternBytes } from '../../../support/assert/bytes.ts';

async function* inPieces(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) {
    yield await Promise.resolve(bytes.subarray(at, at + size));
  }
}

const decode = (bytes: Uint8Array, size = bytes.length || 1): Promise<Buffer> =>
  collect(decompressZstd(inPieces(bytes, size)));

const compress = (bytes: Uint8Array, size: number): Promise<Buffer> =>
  collect(
    compressZstd(inPieces(bytes, size), { level: 3, parallelism: 2, totalBytes: bytes.length }),
  );

/** Lengths of the frames, by their headers. */
function framesOf(bytes: Uint8Array): number[] {
  const lengths: number[] = [];
  for (let at = 0; at < bytes.length; at += lengths.at(-1)!) {
    const parser = createFrameParser();
    lengths.push(parser.take(bytes.subarray(at)));
    assert.ok(parser.isDone());
  }
  return lengths;
}

const skippable = Buffer.concat([
  Buffer.from([0x5a, 0x2a, 0x4d, 0x18, 20, 0, 0, 0]),
  Buffer.alloc(20, 'x'),
]);

describe('compressing', () => {
  it('round-trips in frames of 8 MiB', async () => {
    const bytes = patternBytes(2 * frameBytes + 5);
    const compressed = await compress(bytes, 1_000_003);
    assert.equal(framesOf(compressed).length, 3);
    assert.ok((await decode(compressed, 65_536)).equals(bytes));
  });

  it('makes no frame of empty contents, and one of a byte', async () => {
    assert.equal((await compress(Buffer.alloc(0), 1)).length, 0);
    assert.deepEqual(await decode(await compress(Buffer.from('x'), 1)), Buffer.from('x'));
  });

  it('rethrows failures of its source', async () => {
    const source = (async function* () {
      yield* inPieces(patternBytes(100), 10);
      throw new Error('the source is gone');
    })();
    const options = { level: 3, parallelism: 2, totalBytes: 1000 };
    await assert.rejects(collect(compressZstd(source, options)), /the source is gone/);
  });
});

describe('decompressing', () => {
  const frame = fc.record({
    bytes: fc.uint8Array({ maxLength: 300 }),
    repeat: fc.constantFrom(1, 1000),
    checksum: fc.boolean(),
    level: fc.constantFrom(1, 3, 19),
    isSkipped: fc.boolean(),
  });

  it('reads every frame, in chunks of any size', async () => {
    const property = fc.asyncProperty(
      fc.array(frame, { maxLength: 6 }),
      fc.integer({ min: 1, max: 400 }),
      async (frames, size) => {
        const contents = frames.map(({ bytes, repeat }) =>
          Buffer.concat(Array.from({ length: repeat }, () => bytes)),
        );
        const encoded = frames.flatMap(({ checksum, level, isSkipped }, index) => [
          zstdCompressSync(contents[index]!, {
            params: {
              [constants.ZSTD_c_checksumFlag]: checksum ? 1 : 0,
              [constants.ZSTD_c_compressionLevel]: level,
            },
          }),
          ...(isSkipped ? [skippable] : []),
        ]);
        const whole = Buffer.concat(encoded);
        assert.deepEqual(
          framesOf(whole),
          encoded.map(({ length }) => length),
        );
        assert.ok((await decode(whole, size)).equals(Buffer.concat(contents)));
      },
    );
    await fc.assert(property, { numRuns: 60 });
  });

  it('refuses truncated input, and bytes after the last frame', async () => {
    const one = zstdCompressSync(patternBytes(300));
    const two = Buffer.concat([one, one]);
    for (let length = 1; length < two.length; length += 1) {
      if (length === one.length) continue;
      await assert.rejects(decode(two.subarray(0, length)), Error, `cut to ${length}`);
    }
    await assert.rejects(decode(Buffer.concat([one, Buffer.from('garbage')])), /frame descriptor/);
    await assert.rejects(decode(Buffer.concat([one, Buffer.alloc(100)])), /expected a zstd frame/);
  });

  it('refuses damaged contents, unknown blocks and endless small frames', async () => {
    const params = { [constants.ZSTD_c_checksumFlag]: 1 };
    const damaged = zstdCompressSync(patternBytes(300), { params });
    damaged[20]! ^= 1;
    await assert.rejects(decode(damaged), Error);
    const reserved = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, 0x58, 0x07, 0, 0]);
    await assert.rejects(decode(reserved), /unknown type/);
    for (const contents of [Buffer.alloc(0), Buffer.alloc(1000, 'x')]) {
      const small = zstdCompressSync(contents);
      // 64 KiB of contents allow another frame.
      const many = Buffer.concat(Array.from({ length: 326 }, () => small));
      assert.equal((await decode(many.subarray(6 * small.length))).length, 320 * contents.length);
      await assert.rejects(decode(many), /too many small zstd frames/);
    }
  });

  it('closes its source when the reader stops early', async () => {
    let isOpen = true;
    const frames = Buffer.concat([zstdCompressSync(patternBytes(300)), skippable]);
    const source = (async function* () {
      try {
        while (true) yield* inPieces(frames, 10);
      } finally {
        isOpen = false;
      }
    })();
    for await (const chunk of decompressZstd(source)) if (chunk.length > 0) break;
    assert.equal(isOpen, false);
  });

  it('rethrows failures of its source', async () => {
    const source = (async function* () {
      yield* inPieces(zstdCompressSync(patternBytes(300)).subarray(0, 100), 10);
      throw new Error('the source is gone');
    })();
    await assert.rejects(collect(decompressZstd(source)), /the source is gone/);
  });
});
