import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseContentAddress } from '../../../core/nix/content-address.ts';
import {
  computeCaPath,
  makeStorePath,
  parseStoreBaseName,
  parseStorePath,
  storeBaseName,
  storeHash,
} from '../../../core/nix/store-path.ts';
import { corpus, corpusMissing } from '../../support/assert/corpus.ts';
import { storePaths } from '../../support/lab/nix-values.ts';
import { refuses } from '../../support/assert/refuses.ts';

const data = corpus();
const hash = 'g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q';

function json(path: string): unknown {
  return JSON.parse(data!.read(path).toString());
}

test('parses every store path', () => {
  fc.assert(
    fc.property(storePaths, (text) => {
      const path = parseStorePath(text);
      assert.equal(path.path, text);
      assert.equal(path.storeDir, '/nix/store');
      assert.equal(`/nix/store/${storeBaseName(path)}`, text);
      assert.deepEqual(parseStoreBaseName(storeBaseName(path)), path);
      assert.equal(storeHash(text), path.hash);
    }),
  );
});

test('refuses a path of another store directory', () => {
  assert.equal(parseStorePath(`/gnu/store/${hash}-x`, '/gnu/store').name, 'x');
  refuses('malformed-store-path', () => parseStorePath(`/nix/store/${hash}-x`, '/gnu/store'));
  refuses('malformed-store-path', () => parseStorePath(`/gnu/store/${hash}-x`));
});

test('refuses malformed store paths', () => {
  for (const text of [
    '',
    '/nix/store',
    '/nix/store/',
    `/nix/store/${hash}`,
    `/nix/store/${hash}-`,
    `/nix/store/${hash}x`,
    `/nix/store/${hash}-x/`,
    `/nix/store/${hash}-x/bin`,
    `/nix/store//${hash}-x`,
    `/nix/store/../store/${hash}-x`,
    `/nix/store/${hash}-x\n`,
    `/nix/store/${hash}-x\0`,
    `/nix/store/${hash}-ö`,
    `/nix/store/${hash.toUpperCase()}-x`,
    `/nix/store/${hash.replace('g', 'e')}-x`,
    `/nix/store/${hash}-.`,
    `/nix/store/${hash}-..`,
    `/nix/store/${hash}-.-x`,
    `/nix/store/${hash}-..-x`,
    `/nix/store/${hash}-${'x'.repeat(212)}`,
  ]) {
    refuses('malformed-store-path', () => parseStorePath(text), text);
  }
  assert.equal(parseStorePath(`/nix/store/${hash}-...`).name, '...');
  assert.equal(parseStorePath(`/nix/store/${hash}-${'x'.repeat(211)}`).name.length, 211);
});

test('computes the same store paths as Nix', () => {
  const text = parseContentAddress(
    'text:sha256:1fcgpy7vc4ammr7s17j2xq88scswkgz23dqzc04g8sx5vcp2pppw',
  );
  assert.equal(
    computeCaPath(text, 'foo', [], false),
    '/nix/store/vxjiwkjkn7x4079qvh1jkl5pn05j2aw0-foo',
  );
  assert.equal(
    computeCaPath(text, 'foo', [], false, '/gnu/store'),
    '/gnu/store/798sxvdgr0680czdggbls7rd3sfwk2yx-foo',
  );
  const selfReferring = parseContentAddress(
    'fixed:r:sha256:1kmm5iywcqpmkdad324rciqhhgb2rch112j9vhqyy077q3vkayfx',
  );
  const dep = '/nix/store/kld5ih003khwc5nlq58fir6vhzakpij3-dep.txt';
  const path = '/nix/store/2ppv9vl70skjf7nhmp3d2gf6rvhccsb5-selfref';
  assert.equal(computeCaPath(selfReferring, 'selfref', [dep, dep], true), path);
  assert.notEqual(computeCaPath(selfReferring, 'selfref', [dep], false), path);
});

test('refuses references that a content address does not allow', () => {
  const md5 = parseContentAddress('fixed:md5:4425hx5d1mc9y39llj4k4nm55i');
  const text = parseContentAddress(
    'text:sha256:1fcgpy7vc4ammr7s17j2xq88scswkgz23dqzc04g8sx5vcp2pppw',
  );
  const reference = `/nix/store/${hash}-x`;
  refuses('ca-mismatch', () => computeCaPath(md5, 'x', [reference], false));
  const blake3 = parseContentAddress(`fixed:blake3:${'0'.repeat(52)}`);
  refuses('ca-mismatch', () => computeCaPath(blake3, 'x', [], true));
  refuses('ca-mismatch', () => computeCaPath(text, 'x', [reference], true));
  refuses('malformed-store-path', () => computeCaPath(md5, 'a/b', [], false));
  refuses('malformed-store-path', () => makeStorePath('source', '00', '..'));
});

test('without room for it in the name, a reference to itself does not change the path', () => {
  const md5 = parseContentAddress('fixed:md5:4425hx5d1mc9y39llj4k4nm55i');
  assert.equal(computeCaPath(md5, 'x', [], true), computeCaPath(md5, 'x', [], false));
});

test('the corpus: names', { skip: data === null && corpusMissing }, () => {
  const names = json('storepath/names.json') as { name: string; valid: boolean }[];
  assert.ok(names.length > 0);
  for (const { name, valid } of names) {
    const text = `/nix/store/${hash}-${name}`;
    if (valid) {
      assert.equal(parseStorePath(text).name, name);
    } else {
      refuses('malformed-store-path', () => parseStorePath(text), name);
    }
  }
});

test('the corpus: paths', { skip: data === null && corpusMissing }, () => {
  const paths = json('storepath/paths.json') as { path: string; valid: boolean }[];
  assert.ok(paths.length > 0);
  for (const { path, valid } of paths) {
    if (valid) {
      assert.equal(parseStorePath(path).path, path);
    } else {
      refuses('malformed-store-path', () => parseStorePath(path), path);
    }
  }
});

interface CaCase {
  name: string;
  ca: string;
  path: string;
  references?: string[];
  self_reference?: boolean;
}

test('the corpus: computed paths', { skip: data === null && corpusMissing }, () => {
  for (const file of ['ca-fixed', 'ca-text', 'ca-source-refs']) {
    const cases = json(`storepath/${file}.json`) as CaCase[];
    assert.ok(cases.length > 0);
    for (const { name, ca, path, references, self_reference: self } of cases) {
      const computed = computeCaPath(
        parseContentAddress(ca),
        name,
        references ?? [],
        self ?? false,
      );
      assert.equal(computed, path);
    }
  }
});

test(
  'the corpus: derivations and other store directories',
  { skip: data === null && corpusMissing },
  () => {
    const sha256 = (bytes: string | Buffer): Uint8Array =>
      createHash('sha256').update(bytes).digest();
    const drvs = json('storepath/drv.json') as {
      file: string;
      name: string;
      references: string[];
      path: string;
    }[];
    for (const { file, name, references, path } of drvs) {
      const digest = sha256(data!.read(`storepath/${file}`));
      const ca = { method: 'text', hash: { algorithm: 'sha256', digest } } as const;
      assert.equal(computeCaPath(ca, name, references, false), path);
    }
    const dirs = json('storepath/store-dir.json') as {
      store_dir: string;
      name: string;
      content: string;
      path_text: string;
    }[];
    for (const { store_dir: storeDir, name, content, path_text: path } of dirs) {
      const ca = {
        method: 'text',
        hash: { algorithm: 'sha256', digest: sha256(content) },
      } as const;
      assert.equal(computeCaPath(ca, name, [], false, storeDir), path);
    }
    assert.ok(drvs.length > 0 && dirs.length > 0);
  },
);

test('the corpus: golden store paths of Nix', { skip: data === null && corpusMissing }, () => {
  const name = json('storepath/nixos-nix-json/store-path/simple.json') as string;
  assert.equal(storeBaseName(parseStoreBaseName(name)), name);
  const realisation = json('storepath/nixos-nix-json/realisation/simple.json') as {
    key: { drvPath: string };
    value: { outPath: string };
  };
  for (const text of [realisation.key.drvPath, realisation.value.outPath]) {
    assert.equal(storeBaseName(parseStoreBaseName(text)), text);
  }
});
