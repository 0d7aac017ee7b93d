import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';

import { followToStore, parsePathArgument } from '../../../cli/cache/path-argument.ts';
import { refuses } from '../../support/assert/refuses.ts';

const storeDir = '/nix/store';
const base = '0000000000000000000000000000000a-hello-2.12';
const storePath = `${storeDir}/${base}`;

const cwd = await mkdtemp(join(tmpdir(), 'niche-path-argument-'));
after(() => rm(cwd, { recursive: true }));
await symlink(storePath, join(cwd, 'result'));
await symlink('result', join(cwd, 'again'));
await symlink('loop', join(cwd, 'loop'));
await symlink('/somewhere/else', join(cwd, 'elsewhere'));
await mkdir(join(cwd, 'folder'));
await symlink('../again', join(cwd, 'folder/result'));

for (const text of [
  storePath,
  `${storePath}/`,
  `${storePath}/bin/hello`,
  './result',
  'result',
  'result/',
  'result/bin/hello',
  'again',
  'folder/result',
  'folder/../result',
  join(cwd, 'result'),
]) {
  test(`${text.replace(cwd, '<cwd>')} is the store path`, () => {
    assert.equal(followToStore(text, storeDir, cwd), storePath);
    assert.deepEqual(parsePathArgument(text, storeDir, cwd), {
      hash: base.slice(0, 32),
      path: storePath,
    });
  });
}

test('a hash, and the last component of a path, need no file', () => {
  const hash = base.slice(0, 32);
  assert.deepEqual(parsePathArgument(hash, storeDir, cwd), { hash, path: null });
  assert.deepEqual(parsePathArgument(base, storeDir, cwd), { hash, path: storePath });
});

for (const text of ['', '.', './missing', 'loop', 'elsewhere', 'folder', '.#default', storeDir]) {
  test(`${JSON.stringify(text)} is no store path`, () => {
    assert.equal(followToStore(text, storeDir, cwd), null);
    refuses('usage', () => parsePathArgument(text, storeDir, cwd));
  });
}

test('a link into another store is no path of this one', () => {
  assert.equal(followToStore('result', '/other/store', cwd), null);
});
