import assert from 'node:assert/strict';
import { it } from 'node:test';
import fc from 'fast-check';
import { createStoreHashSet, isDigit, keyAt } from '../../../core/nix/store-hash-set.ts';
import type { StoreHashSet } from '../../../core/nix/store-hash-set.ts';

const alphabet = '0123456789abcdfghijklmnpqrsvwxyz';
const digits = fc.string({
  unit: fc.constantFrom(...alphabet.split('')),
  minLength: 32,
  maxLength: 32,
});
const choices = fc.array(fc.boolean(), { minLength: 100, maxLength: 100 });
const hashes = fc.uniqueArray(digits, { maxLength: 100 });

function add(set: StoreHashSet, hash: string): void {
  const bytes = Buffer.from(hash);
  set.add(keyAt(bytes, 0), bytes, 0);
}

function indexOf(set: StoreHashSet, hash: string): number {
  const bytes = Buffer.from(hash);
  return set.indexOf(keyAt(bytes, 0), bytes, 0);
}

function search(set: StoreHashSet, text: string): { found: number[]; end: number } {
  const found: number[] = [];
  const end = set.searchRun(Buffer.from(text), 0, (index) => found.push(index));
  return { found, end };
}

it('knows the digits', () => {
  const bytes = Array.from({ length: 256 }, (_, byte) => byte).filter(isDigit);
  assert.equal(String.fromCharCode(...bytes), alphabet);
  assert.equal(isDigit(undefined), false);
});

it('finds exactly the hashes that were added and not taken out', () => {
  const property = fc.property(hashes, choices, (all, choice) => {
    const set = createStoreHashSet(0);
    for (const hash of all) add(set, hash);
    assert.deepEqual(
      all.map((hash) => indexOf(set, hash)),
      all.map((_, index) => index),
    );
    const kept = choice.slice(0, all.length);
    for (const [index, isKept] of kept.entries()) if (!isKept) set.delete(index);
    assert.deepEqual(
      all.map((hash) => indexOf(set, hash)),
      kept.map((isKept, index) => (isKept ? index : -1)),
    );
    assert.equal(set.size(), kept.filter(Boolean).length);
    add(set, 'a'.repeat(32));
    assert.equal(indexOf(set, 'a'.repeat(32)), all.length);
  });
  fc.assert(property, { numRuns: 200 });
});

it('finds hashes anywhere in a run of digits, which ends at any other byte', () => {
  const run = alphabet.repeat(3);
  const set = createStoreHashSet(4);
  for (const start of [0, 1]) add(set, run.slice(start, start + 32));
  for (const after of ['', '-', 'e', '\0', `e${run}`]) {
    const { found, end } = search(set, run + after);
    assert.equal(end, run.length);
    // The alphabet repeats, so a hash occurs again 32 digits later.
    assert.deepEqual(found, [0, 1, 0, 1, 0]);
  }
  assert.deepEqual(search(set, 'b'.repeat(32)), { found: [], end: 32 });
});

it('finds a hash no more once it is taken out during the search', () => {
  const set = createStoreHashSet(1);
  add(set, 'a'.repeat(32));
  let count = 0;
  set.searchRun(Buffer.alloc(10_000, 'a'), 0, (index) => {
    count += 1;
    set.delete(index);
  });
  assert.equal(count, 1);
});

it('has a key of its own for nearly every hash, however similar', () => {
  const similar = new Set<string>();
  // Swapping in the pattern of Thue and Morse makes sums of powers collide.
  const isOdd = (value: number): boolean => value.toString(2).replaceAll('0', '').length % 2 === 1;
  for (const one of alphabet) {
    for (const other of alphabet) {
      similar.add(Array.from({ length: 32 }, (_, at) => (isOdd(at) ? one : other)).join(''));
      for (let at = 0; at < 32; at += 4) {
        similar.add(one.repeat(at) + other + one.repeat(31 - at));
      }
    }
  }
  const keys = new Set([...similar].map((hash) => keyAt(Buffer.from(hash), 0)));
  assert.ok(keys.size > similar.size - 20, `${keys.size} keys of ${similar.size} hashes`);
});
