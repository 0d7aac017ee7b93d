import assert from 'node:assert/strict';
import { test } from 'node:test';
import { requireNix } from '../support/lab/nix-lab.ts';
import { fuzzNarInfo } from './narinfo.ts';
import { nixOracle } from './oracle.ts';

test('damaged narinfos are refused, or survive formatting and parsing', () => {
  const { taken, refused, faults } = fuzzNarInfo({ count: 3000, seed: 1, oracle: null });
  assert.deepEqual(faults, []);
  assert.ok(taken > 100 && refused > 100, `${taken} taken, ${refused} refused`);
});

test('Nix accepts every damaged narinfo that the parser accepts', (context) => {
  if (!requireNix(context)) return;
  const { faults } = fuzzNarInfo({ count: 40, seed: 2, oracle: nixOracle() });
  assert.deepEqual(faults, []);
});
