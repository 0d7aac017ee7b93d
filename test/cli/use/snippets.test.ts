import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';

import { snippetFor, snippetKinds } from '../../../cli/use/snippets.ts';
import { describeSystem, permitCommands, systemCommands } from '../../../cli/use/system-conf.ts';
import { requireNix } from '../../support/lab/nix-lab.ts';
import { temporaryFolder } from '../../support/cache/small-cache.ts';

const entry = {
  name: 'acme',
  substituter: 'https://acme.example/a?b=c',
  publicKeys: ['acme-1:k+/=', 'acme-2:k'],
};
/** Values that a cache may have, even unlikely ones. */
const hostile = {
  name: 'acme',
  substituter: `https://x/"$\{builtins.throw}\\'$(id)\``,
  publicKeys: [`a'"$\{x}:k=`],
};

describe('snippets', () => {
  for (const kind of snippetKinds) {
    test(`contain cache and keys for ${kind}`, () => {
      const snippet = snippetFor(kind, entry);
      for (const text of [entry.substituter, ...entry.publicKeys]) {
        assert.ok(snippet.includes(text), snippet);
      }
      assert.ok(snippet.endsWith('\n'));
      assert.doesNotMatch(snippet, /\t| \n/);
    });
  }

  for (const kind of ['nixos', 'flake'] as const) {
    test(`can be parsed by Nix for ${kind}`, async (t) => {
      const nix = requireNix(t);
      if (!nix) return;
      const folder = await temporaryFolder(t);
      const env = { ...process.env, HOME: folder, NIX_REMOTE: folder, NIX_BIN_DIR: nix.bin };
      for (const { name, substituter, publicKeys } of [entry, hostile]) {
        const text = snippetFor(kind, { name, substituter, publicKeys });
        const whole = kind === 'flake' ? `{\n${text}}` : text;
        const [expression, set] = [`(${whole})`, kind === 'flake' ? 'nixConfig' : 'nix.settings'];
        const args = ['--eval', '--json', '--strict', '--expr', `${expression}.${set}`];
        const value: unknown = JSON.parse(
          execFileSync(join(nix.bin, 'nix-instantiate'), args, {
            env,
            encoding: 'utf8',
            stdio: ['ignore', 'pipe', 'ignore'],
          }),
        );
        assert.deepEqual(value, {
          'extra-substituters': [substituter],
          'extra-trusted-public-keys': publicKeys,
        });
      }
    });
  }

  for (const kind of ['github', 'gitlab'] as const) {
    test(`contain the lines of nix.conf in one block for ${kind}`, () => {
      const lines = snippetFor(kind, entry).split('\n');
      const at = lines.findIndex((line) => line.endsWith(': |'));
      const indentOf = (line: string | undefined): number =>
        /^ */.exec(line ?? '')?.[0].length ?? 0;
      const inner = lines.slice(at + 1, at + 3);
      assert.deepEqual(
        inner.map((line) => line.trim()),
        [
          'extra-substituters = https://acme.example/a?b=c',
          'extra-trusted-public-keys = acme-1:k+/= acme-2:k',
        ],
      );
      for (const line of inner) assert.equal(indentOf(line), indentOf(lines[at]) + 2);
      assert.ok(indentOf(lines[at + 3]) <= indentOf(lines[at]));
    });
  }
});

describe('the system’s nix.conf', () => {
  test('gets exactly the lines from the commands, with any contents', async (t) => {
    const folder = await temporaryFolder(t);
    const file = join(folder, "it's nix.conf");
    for (const one of [entry, hostile]) {
      await writeFile(file, 'last = line');
      const system = { path: file, isManaged: false, restart: null };
      for (const commands of [systemCommands(system, one), permitCommands(system, one)]) {
        assert.equal(commands.length, 1);
        execFileSync('/bin/sh', ['-c', commands[0]!.replace('sudo ', '')]);
      }
      const keys = `extra-trusted-public-keys = ${one.publicKeys.join(' ')}`;
      assert.equal(
        execFileSync('cat', [file], { encoding: 'utf8' }),
        `last = line\nextra-substituters = ${one.substituter}\n${keys}\n\nextra-trusted-substituters = ${one.substituter}\n${keys}\n`,
      );
    }
  });

  test('is the file that Nix reads, or the one for administrators', async (t) => {
    const folder = await temporaryFolder(t);
    const env = { NIX_CONF_DIR: folder };
    const main = join(folder, 'nix.conf');
    assert.equal((await describeSystem(env, 'linux')).path, main);
    assert.equal((await describeSystem({}, 'linux')).path, '/etc/nix/nix.conf');
    await writeFile(main, 'x = y\n!include nix.custom.conf\n');
    const custom = await describeSystem(env, 'darwin');
    assert.equal(custom.path, join(folder, 'nix.custom.conf'));
    assert.match(custom.restart ?? '', /^sudo launchctl kickstart -k system\//);
  });

  test('is generated if it is a symbolic link', async (t) => {
    const folder = await temporaryFolder(t);
    await symlink('/nix/store/x-nix.conf', join(folder, 'nix.conf'));
    assert.equal((await describeSystem({ NIX_CONF_DIR: folder }, 'linux')).isManaged, true);
  });
});
