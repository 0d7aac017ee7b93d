import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { createDerivationHasher } from '../../../core/nix/derivation-hash.ts';
import { parseDerivation } from '../../../core/nix/derivation.ts';
import type { Derivation } from '../../../core/nix/derivation.ts';

/**
 * Derivations that Nix 2.34.8 wrote, and the hash in the id that it printed for each one's realisation:
 * content-addressed ones as evaluated and as resolved, their input-addressed dependent, and inputs with
 * fixed and with known output paths. Nix 2.8.0 and 2.26.3 print the same.
 */
const { derivations, hashes } = JSON.parse(
  readFileSync('test/fixtures/realisation/graph-nix-2.34.8.json', 'utf8'),
) as Readonly<Record<'derivations' | 'hashes', Readonly<Record<string, string>>>>;

function read(drvPath: string): Promise<Derivation | null> {
  const text = derivations[drvPath];
  return Promise.resolve(text === undefined ? null : parseDerivation(text));
}

test('derivations are hashed as Nix does for the ids of realisations', async () => {
  const hashDerivation = createDerivationHasher(read);
  assert.ok(Object.keys(hashes).length > 8);
  for (const [drvPath, hash] of Object.entries(hashes)) {
    assert.equal(await hashDerivation(drvPath), hash, drvPath);
  }
});

test('a derivation without one of its inputs has no hash', async () => {
  const isInput = (drvPath: string): boolean => drvPath.endsWith('-src.drv');
  const hashDerivation = createDerivationHasher(async (drvPath) =>
    isInput(drvPath) ? null : read(drvPath),
  );
  const [dependent = ''] = Object.keys(derivations).filter((path) => path.endsWith('-top.drv'));
  assert.equal(await hashDerivation(dependent.replace('-top', '-gone')), null);
  assert.equal(await hashDerivation('/nix/store/4cpldib0812c9pf794x8fi75l3hrljxj-c.drv'), null);
});

test('escaped characters and bytes that are not UTF-8 keep their form', async () => {
  const name = '/nix/store/3rpfp81rsxs1abrkqn76b0ajln8fwss2-odd.drv';
  const text = `Derive([("out","","r:sha256","")],[],[],"x","/bin/sh",["a\\"b\\\\c\\nd\\te\\rf\xff"],[("out","/1rz4g4")])`;
  const hashDerivation = createDerivationHasher(() => Promise.resolve(parseDerivation(text)));
  const masked = text.replace('"/1rz4g4"', '""');
  const digest = createHash('sha256').update(masked, 'latin1').digest('hex');
  assert.equal(await hashDerivation(name), `sha256:${digest}`);
});
