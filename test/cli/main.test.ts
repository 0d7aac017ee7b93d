import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import type { SpawnSyncReturns } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, openSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { shellWord } from '../../core/util/shell.ts';
import { runCommand } from '../support/lab/command.ts';

const command = [join(import.meta.dirname, '../../cli/main.ts'), 'init', '--help'];

test('a full disk is a failure', (t) => {
  if (!existsSync('/dev/full')) {
    t.skip('this system has no /dev/full');
    return;
  }
  const full = openSync('/dev/full', 'w');
  t.after(() => {
    closeSync(full);
  });
  const { status, stderr } = spawnSync(process.execPath, command, {
    stdio: ['ignore', full, 'pipe'],
    encoding: 'utf8',
  });
  assert.equal(status, 1);
  assert.match(stderr, /^niche: writing to standard output failed: .*ENOSPC.*\n$/);
});

test('a closed pipe is not a failure', async () => {
  const child = spawn(process.execPath, command, { stdio: ['ignore', 'pipe', 'pipe'] });
  child.stdout.destroy();
  let told = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (told += text));
  const [status] = (await once(child, 'close')) as [number | null];
  assert.equal(status, 128 + constants.signals.SIGPIPE);
  assert.equal(told, '');
});

test('a cache URL among paths or uploads is refused', async () => {
  for (const name of ['show', 'status', 'verify', 'block']) {
    const { status, stdout, stderr } = await runCommand([name, 'file:///srv/the cache']);
    assert.deepEqual([status, stdout], [1, '']);
    assert.match(stderr, /^niche: expected [^\n]*, got a URL: "file:\/\/\/srv\/the cache"\n/);
    assert.ok(stderr.endsWith(`with -u: niche ${name} -u 'file:///srv/the cache'\n`), stderr);
  }
});

test('in a deleted working directory, niche names the reason, and prints its help', (t) => {
  if (process.platform !== 'linux') {
    t.skip('only Linux lets a process delete its working directory');
    return;
  }
  const niche = (...args: string[]): SpawnSyncReturns<string> => {
    const [main = ''] = command;
    const line = [process.execPath, main, ...args].map(shellWord).join(' ');
    const script = `cd "$(mktemp -d)" && rmdir "$PWD" && exec ${line}`;
    return spawnSync('sh', ['-c', script], { encoding: 'utf8' });
  };
  const { status, stdout, stderr } = niche('show', '-u', './cache');
  assert.deepEqual([status, stdout], [1, '']);
  assert.equal(
    stderr,
    'niche: cannot find the working directory: it was deleted\nhint: cd to a directory that exists\n',
  );
  assert.deepEqual([niche('--help').status, niche('--help').stderr], [0, '']);
});
