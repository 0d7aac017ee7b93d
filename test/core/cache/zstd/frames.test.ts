import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { zstdDecompressSync } from 'node:zlib';

import fc from 'fast-check';

import {
  compressSmall,
  frameBytes,
  maxSmallBytes,
  returnFrameBuffer,
  takeFrameBuffer,
} from '../../../../core/cache/zstd/frames.ts';
import type { FrameBuffer } from '../../../../core/cache/zstd/frames.ts';
import { createFrameParser } from '../../../../core/cache/zstd/frame-parser.ts';
import { patternBytes } from '../../../support/assert/bytes.ts';

/** The only input that fails: zstd clamps invalid levels. */
const noContents = undefined as unknown as Uint8Array;

describe('compressing small contents', () => {
  it('makes one frame of each, in any number and at any level', async () => {
    const small = fc.record({
      contents: fc.uint8Array({ maxLength: 3000 }).map((bytes) => Buffer.from(bytes)),
      level: fc.integer({ min: 1, max: 19 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(small, { maxLength: 80 }), async (several) => {
        const frames = await Promise.all(
          several.map(({ contents, level }) => compressSmall(contents, level)),
        );
        for (const [index, frame] of frames.entries()) {
          const parser = createFrameParser();
          assert.equal(parser.take(frame), frame.length);
          assert.ok(parser.isDone());
          assert.ok(zstdDecompressSync(frame).equals(several[index]!.contents));
        }
      }),
      { numRuns: 25 },
    );
  });

  it('makes the same frame alone and together with others', async () => {
    const contents = patternBytes(maxSmallBytes, 1);
    const alone = await compressSmall(contents, 3);
    const company = await Promise.all(Array.from({ length: 40 }, () => compressSmall(contents, 3)));
    for (const frame of company) assert.deepEqual(frame, new Uint8Array(alone));
  });

  it('accepts incompressible contents', async () => {
    const contents = crypto.getRandomValues(new Uint8Array(maxSmallBytes));
    const frames = await Promise.all(Array.from({ length: 20 }, () => compressSmall(contents, 3)));
    for (const frame of frames) assert.ok(zstdDecompressSync(frame).equals(contents));
  });

  for (const count of [1, 40]) {
    it(`rejects each that cannot be compressed, and continues: ${count} at once`, async () => {
      const contents = patternBytes(100, 1);
      const failed = await Promise.allSettled(
        Array.from({ length: count }, () => compressSmall(noContents, 3)),
      );
      assert.ok(failed.every(({ status }) => status === 'rejected'));
      assert.ok(zstdDecompressSync(await compressSmall(contents, 3)).equals(contents));
    });
  }
});

describe('frame buffers', () => {
  it('are bounded for the process, but each stream gets one, and used again', () => {
    const taken: FrameBuffer[] = [];
    for (let owned = 0; ; owned += 1) {
      const buffer = takeFrameBuffer(frameBytes, owned);
      if (buffer === null) break;
      taken.push(buffer);
    }
    assert.ok(taken.length <= 6);
    const other = takeFrameBuffer(frameBytes, 0);
    assert.ok(other !== null && !taken.includes(other));
    for (const buffer of [...taken, other]) returnFrameBuffer(buffer, true);
    const again = takeFrameBuffer(frameBytes, 0);
    assert.ok(again !== null && [...taken, other].includes(again));
    returnFrameBuffer(again, true);
  });

  it('are not used again while somebody may still read them', () => {
    const buffer = takeFrameBuffer(frameBytes, 0);
    assert.ok(buffer !== null);
    returnFrameBuffer(buffer, false);
    const others = Array.from({ length: 8 }, () => takeFrameBuffer(frameBytes, 0));
    assert.ok(!others.includes(buffer));
    for (const other of others) if (other !== null) returnFrameBuffer(other, true);
  });
});
