import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

import { locateStore } from '../../../cli/nix/store-location.ts';
import { temporaryFolder } from './temporary-folder.ts';

const at = (storeUrl: string): { logical: string; real: string | null } =>
  locateStore({ storeUrl, defaultStoreDir: '/nix/store', env: { HOME: '/no' }, cwd: '/here' });

test('finds the location of paths for each kind of store', () => {
  const logical = '/nix/store';
  for (const url of ['', 'auto', 'daemon', 'local', 'unix:///run/nix.socket', 'local://']) {
    assert.deepEqual(at(url), { logical, real: '/nix/store' }, url);
  }
  assert.deepEqual(at('/mnt'), { logical, real: '/mnt/nix/store' });
  assert.deepEqual(at('./root'), { logical, real: '/here/root/nix/store' });
  assert.deepEqual(at('local?root=/a%20b'), { logical, real: '/a b/nix/store' });
  assert.deepEqual(at('local:///mnt?x=1'), { logical, real: '/mnt/nix/store' });
  assert.deepEqual(at('unix:///s?root=/mnt'), { logical, real: '/mnt/nix/store' });
  assert.deepEqual(at('local?root=/mnt&real=/else'), { logical, real: '/else' });
  assert.deepEqual(at('local?store=/my/store'), { logical: '/my/store', real: '/my/store' });
});

test('a user who cannot create /nix has a store in the home folder', (t) => {
  const home = temporaryFolder(t);
  const real = path.join(home, '.local/share/nix/root/nix/store');
  mkdirSync(real, { recursive: true });
  const missing = path.join(home, 'nothing');
  const input = { storeUrl: 'auto', defaultStoreDir: missing, env: { HOME: home }, cwd: '/' };
  assert.deepEqual(locateStore(input), { logical: missing, real });
});

test('a store behind ssh-ng has no folder on this machine', () => {
  for (const url of ['ssh-ng://host', 'ssh-ng://user@host?remote-store=/mnt&ssh-key=/k']) {
    assert.deepEqual(at(url), { logical: '/nix/store', real: null }, url);
  }
});

test('other stores on another machine are refused', () => {
  for (const url of ['ssh://host', 'https://cache.example', 's3://b', 'dummy://']) {
    assert.throws(() => at(url), { code: 'usage' }, url);
  }
});
