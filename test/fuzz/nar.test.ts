import assert from 'node:assert/strict';
import { test } from 'node:test';
import { requireNix } from '../support/lab/nix-lab.ts';
import { fuzzNar } from './nar.ts';
import { nixOracle } from './oracle.ts';

test('damaged NARs get the same verdict in chunks of any size', () => {
  const { taken, refused, faults } = fuzzNar({ count: 3000, seed: 1, oracle: null });
  assert.deepEqual(faults, []);
  assert.ok(taken > 100 && refused > 100, `${taken} taken, ${refused} refused`);
});

test('damaged NARs get the same verdict as from Nix', (context) => {
  if (!requireNix(context)) return;
  const { faults } = fuzzNar({ count: 20, seed: 2, oracle: nixOracle() });
  assert.deepEqual(faults, []);
});
