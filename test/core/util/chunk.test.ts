import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { splitIntoChunks } from '../../../core/util/chunk.ts';

const split = (sizes: readonly number[]): number[][] =>
  splitIntoChunks(sizes, { maxItems: 3, maxSize: 10, sizeOf: (size) => size });

describe('splitIntoChunks', () => {
  it('keeps the order and both limits', () => {
    assert.deepEqual(split([]), []);
    assert.deepEqual(split([1, 1, 1, 1]), [[1, 1, 1], [1]]);
    assert.deepEqual(split([5, 5, 1]), [[5, 5], [1]]);
    assert.deepEqual(split([6, 5]), [[6], [5]]);
  });

  it('gives an item above the limit a chunk of its own', () => {
    assert.deepEqual(split([1, 11, 1]), [[1], [11], [1]]);
    assert.deepEqual(split([11]), [[11]]);
  });
});
