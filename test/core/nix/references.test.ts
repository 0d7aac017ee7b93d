import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { maxNamedUnclaimed } from '../../../core/limits.ts';
import {
  createReferenceScanner,
  maxCountedUnclaimed,
  maxUnclaimedLookups,
} from '../../../core/nix/references.ts';
import type { UnclaimedPaths } from '../../../core/nix/references.ts';
import { piecesOf } from '../../support/cache/nar-corpus.ts';

const alphabet = '0123456789abcdfghijklmnpqrsvwxyz';
/** Returns a store hash made from a number. */
const hashOf = (value: number): string => {
  let text = '';
  for (let rest = value; text.length < 32; rest = Math.floor(rest / 32)) {
    text = (alphabet[rest % 32] ?? '') + text;
  }
  return text;
};
const glibc = 'sl141d1g77wvhr050ah87lcyz2czdxa3';
const bash = '8r0zsv0mg3n8x1ykcf6j1zd5yqlf7cah';
const other = 'a6rnjp15qgp8a699dlffqj94hzy1nldg';

interface Scan {
  readonly found: readonly string[];
  readonly unclaimed: UnclaimedPaths;
}

function scan(bytes: Uint8Array | string, candidates: string[], lengths: number[] = []): Scan {
  const scanner = createReferenceScanner({ storeDir: '/nix/store', candidates });
  const buffer = Buffer.from(bytes);
  for (const piece of lengths.length === 0 ? [buffer] : piecesOf(buffer, lengths)) {
    scanner.write(piece);
  }
  return { found: [...scanner.found()].sort(), unclaimed: scanner.unclaimed() };
}

const nothing: UnclaimedPaths = { count: 0, first: [] };

describe('candidates', () => {
  const text = `x/nix/store/${glibc}-glibc-2.40/lib:${bash} and ${other.slice(1)}`;
  test('are found at any position, whole or across chunks', () => {
    const expected = { found: [bash, glibc].sort(), unclaimed: nothing };
    assert.deepEqual(scan(text, [glibc, bash, other]), expected);
    for (let first = 1; first < text.length; first++) {
      assert.deepEqual(scan(text, [glibc, bash, other], [first, text.length]), expected);
    }
    assert.deepEqual(scan(text, [glibc, bash, other], [1]), expected);
  });

  test('are found inside longer runs of hash characters, and where they overlap', () => {
    const run = `00${glibc}0`;
    assert.deepEqual(scan(run, [glibc]).found, [glibc]);
    const long = 'abc'.repeat(30);
    const at = (start: number): string => long.slice(start, start + 32);
    assert.deepEqual(scan(long, [at(0), at(1), at(2)]).found.length, 3);
  });

  test('are not found when one character differs or is missing', () => {
    assert.deepEqual(scan(`${glibc.slice(0, 31)}e`, [glibc]).found, []);
    assert.deepEqual(scan(glibc.toUpperCase(), [glibc]).found, []);
    assert.deepEqual(scan(glibc.slice(0, 31), [glibc]).found, []);
    assert.deepEqual(scan('', [glibc]), { found: [], unclaimed: nothing });
  });

  test('match a plain search, in chunks of any size', () => {
    const piece = fc.oneof(
      fc.constantFrom(glibc, bash, other, '/nix/store/', `/nix/store/${other}-n`, 'e', '-'),
      fc.string({ unit: fc.constantFrom(...alphabet.split('')), maxLength: 40 }),
      fc.string({ maxLength: 40 }),
    );
    const property = fc.property(
      fc.array(piece, { maxLength: 30 }),
      fc.array(fc.integer({ min: 1, max: 80 }), { minLength: 1, maxLength: 10 }),
      (pieces, lengths) => {
        const bytes = pieces.join('');
        const candidates = [glibc, bash];
        const result = scan(bytes, candidates, lengths);
        const expected = candidates.filter((candidate) => bytes.includes(candidate)).sort();
        assert.deepEqual(result.found, expected);
        assert.deepEqual(result, scan(bytes, candidates));
        const paths = new Map<string, string>();
        const pattern = /\/nix\/store\/([0-9a-df-np-sv-z]{32})-[A-Za-z0-9+\-._?=]{1,211}/g;
        for (const [path, hash = ''] of bytes.matchAll(pattern)) {
          if (!candidates.includes(hash) && !paths.has(hash)) paths.set(hash, path);
        }
        assert.equal(result.unclaimed.count, paths.size);
      },
    );
    fc.assert(property, { numRuns: 500 });
  });
});

describe('unclaimed paths', () => {
  const path = `/nix/store/${other}-hello-2.12.1+git=1_x?y`;
  test('are reported in full, once, in chunks of any size', () => {
    const text = `(${path}) ${path}/bin /nix/store/${glibc}-glibc ${other}-x /nix/store/${bash}`;
    const expected = { found: [glibc], unclaimed: { count: 1, first: [path] } };
    assert.deepEqual(scan(text, [glibc]), expected);
    for (const length of [1, 2, 31, 32, 33, 64, 100, 255]) {
      assert.deepEqual(scan(text, [glibc], [length]), expected);
    }
  });

  test('may end at the last byte', () => {
    for (const lengths of [[], [1], [60]]) {
      assert.deepEqual(scan(path, [], lengths).unclaimed, { count: 1, first: [path] });
    }
  });

  test('have names of at most 211 characters', () => {
    const long = `/nix/store/${other}-${'n'.repeat(300)}`;
    const expected = { count: 1, first: [long.slice(0, 11 + 32 + 1 + 211)] };
    assert.deepEqual(scan(long, []).unclaimed, expected);
    assert.deepEqual(scan(long, [], [1]).unclaimed, expected);
  });

  test('must be in the store directory and have a name', () => {
    for (const text of [
      `/gnu/store/${other}-hello`,
      `/nix/store${other}-hello`,
      `/nix/store/${other}`,
      `/nix/store/${other}-`,
      `/nix/store/${other}-/`,
      `/nix/store/0${other}-hello`,
      `/nix/store/eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee-hello`,
    ]) {
      assert.deepEqual(scan(text, []).unclaimed, nothing, text);
    }
  });

  test('are counted up to a limit, and only the first are listed', () => {
    const count = maxCountedUnclaimed + 5;
    const paths = Array.from({ length: count }, (_, index) => `/nix/store/${hashOf(index)}-n`);
    const { unclaimed } = scan(paths.join(' '), [], [1000]);
    assert.equal(unclaimed.count, maxCountedUnclaimed);
    assert.deepEqual(unclaimed.first, paths.slice(0, maxNamedUnclaimed));
  });

  test('are not counted after too many occurrences of the same ones', () => {
    const paths = (hash: string, count: number): string => `/nix/store/${hash}-n `.repeat(count);
    const text = (count: number): string => paths(other, count) + paths(bash, 1);
    assert.equal(scan(text(maxUnclaimedLookups - 1), []).unclaimed.count, 2);
    assert.equal(scan(text(maxUnclaimedLookups), []).unclaimed.count, 1);
    // Claimed paths do not use up the limit.
    assert.equal(scan(text(maxUnclaimedLookups), [other]).unclaimed.count, 1);
    assert.deepEqual(scan(text(maxUnclaimedLookups), [bash]).found, [bash]);
  });
});
