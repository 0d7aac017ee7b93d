import assert from 'node:assert/strict';
import { mkdirSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

import { watchOutLinks } from '../../../cli/watch/out-links.ts';
import { fakeNix } from '../nix/fake-nix.ts';
import { temporaryFolder } from '../nix/temporary-folder.ts';

/** Makes a link as Nix does. */
function link(file: string, target: string): void {
  symlinkSync(target, `${file}.new`);
  renameSync(`${file}.new`, file);
}

test('reads the links that the command makes, not those from before', (t) => {
  const cwd = temporaryFolder(t);
  const nix = { ...fakeNix(() => ({})), cwd };
  link(path.join(cwd, 'result'), '/nix/store/a');
  link(path.join(cwd, 'result-2'), '/nix/store/old');
  const args = ['build', '.#x'];
  const links = watchOutLinks(nix, 'nix', args, path.join(cwd, 'unused'));
  assert.equal(links?.args, args);
  assert.deepEqual(links.read(), []);
  link(path.join(cwd, 'result'), '/nix/store/a');
  link(path.join(cwd, 'result-dev'), '/nix/store/a-dev');
  link(path.join(cwd, 'result-other'), '/elsewhere');
  link(path.join(cwd, 'results'), '/nix/store/b');
  writeFileSync(path.join(cwd, 'result-file'), '');
  assert.deepEqual([...links.read()].sort(), ['/nix/store/a', '/nix/store/a-dev']);
});

test('reads links with the name that the command sets', (t) => {
  const cwd = temporaryFolder(t);
  const nix = { ...fakeNix(() => ({})), cwd };
  for (const flags of [
    ['--out-link', 'sub/x'],
    ['-o', 'sub/x'],
    ['-Lo', 'sub/x'],
  ]) {
    const links = watchOutLinks(nix, '/bin/nix-build', ['--no-out-link', ...flags], cwd);
    mkdirSync(path.join(cwd, 'sub'), { recursive: true });
    link(path.join(cwd, 'sub/x-2'), '/nix/store/a');
    assert.deepEqual(links?.read(), ['/nix/store/a']);
  }
});

test('a command without links gets one below the folder', (t) => {
  const folder = temporaryFolder(t);
  const link1 = path.join(folder, 'results/result');
  const nix = fakeNix(() => ({}));
  const links = watchOutLinks(nix, 'nix', ['build', '--no-link', '--', '.#x'], folder);
  assert.deepEqual(links?.args, ['build', '--no-link', '--out-link', link1, '--', '.#x']);
  link(link1, '/nix/store/a');
  assert.deepEqual(links.read(), ['/nix/store/a']);
});

test('other commands, and those that build nothing, have no links', (t) => {
  const folder = temporaryFolder(t);
  const nix = fakeNix(() => ({}));
  for (const [command = '', ...args] of [
    ['nix', 'develop'],
    ['make', '-o', 'x'],
    ['nix-build', '--dry-run'],
  ]) {
    assert.equal(watchOutLinks(nix, command, args, folder), null);
  }
});
