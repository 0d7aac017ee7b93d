import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { fuzzNar } from './nar.ts';

test('damaged NARs are judged alike however they are cut', () => {
  const { taken, refused, faults } = fuzzNar({ count: 3000, seed: 1, oracle: false });
  assert.deepEqual(faults, []);
  assert.ok(taken > 100 && refused > 100, `${taken} taken, ${refused} refused`);
});

test('damaged NARs are judged as Nix judges them', (context) => {
  if (spawnSync('nix-store', ['--version']).status !== 0) {
    assert.notEqual(process.env['CI'], 'true', 'nix-store is missing');
    context.skip('nix-store is not installed');
    return;
  }
  const { faults } = fuzzNar({ count: 20, seed: 2, oracle: true });
  assert.deepEqual(faults, []);
});
