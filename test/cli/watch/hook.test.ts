import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test, type TestContext } from 'node:test';
import { promisify } from 'node:util';

import { hookScript, installHook } from '../../../cli/watch/hook.ts';
import { readSpool } from '../../../cli/watch/spool.ts';
import { collect } from '../nix/collect.ts';
import { temporaryFolder } from '../nix/temporary-folder.ts';

const shells = ['/bin/dash', '/bin/bash', '/bin/sh'].filter((shell) => existsSync(shell));
const drvPath = '/nix/store/abc-x.drv';
const ended = AbortSignal.abort();

function install(
  t: TestContext,
  previousHook: string | null = null,
): ReturnType<typeof installHook> {
  return installHook({ folder: temporaryFolder(t), previousHook });
}

test('writes a line for each output', async (t) => {
  for (const shell of shells) {
    const { hookFile, spoolFile } = install(t);
    assert.equal(statSync(spoolFile).mode & 0o777, 0o600);
    const env = { DRV_PATH: drvPath, OUT_PATHS: '/nix/store/a /nix/store/*' };
    const { status, stdout, stderr } = spawnSync(shell, [hookFile], { env, encoding: 'utf8' });
    assert.deepEqual([status, stdout, stderr], [0, '', '']);
    assert.deepEqual(await collect(readSpool(spoolFile, { ended })), [
      { drvPath, outPath: '/nix/store/a' },
      { drvPath, outPath: '/nix/store/*' },
    ]);
  }
});

test('writes only the derivation if nix passes no outputs', async (t) => {
  for (const env of [{ DRV_PATH: drvPath, OUT_PATHS: '' }, { DRV_PATH: drvPath }]) {
    const { hookFile, spoolFile } = install(t);
    assert.equal(spawnSync(hookFile, { env }).status, 0);
    const entries = await collect(readSpool(spoolFile, { ended }));
    assert.deepEqual(entries, [{ drvPath, outPath: null }]);
  }
});

test('a missing or unwritable spool does not fail the build', (t) => {
  for (const shell of shells) {
    const { hookFile, spoolFile } = install(t);
    rmSync(spoolFile);
    writeFileSync(hookFile, hookScript('/nowhere/at all/spool', null));
    const env = { DRV_PATH: drvPath, OUT_PATHS: '/nix/store/a' };
    const { status, stderr } = spawnSync(shell, [hookFile], { env, encoding: 'utf8' });
    assert.deepEqual([status, stderr], [0, ''], shell);
  }
});

test('runs the previous hook in the same environment, and returns its status', (t) => {
  for (const shell of shells) {
    const folder = temporaryFolder(t);
    const previous = path.join(folder, `pre'vious $(touch injected) *`);
    const script = `#!/bin/sh\necho "$DRV_PATH $OUT_PATHS $#" > ${folder}/ran\nexit 7\n`;
    writeFileSync(previous, script);
    chmodSync(previous, 0o755);
    const { hookFile, spoolFile } = install(t, previous);
    const env = { DRV_PATH: drvPath, OUT_PATHS: '/nix/store/a /nix/store/b' };
    assert.equal(spawnSync(shell, [hookFile], { env, cwd: folder }).status, 7);
    assert.equal(
      readFileSync(path.join(folder, 'ran'), 'utf8'),
      `${drvPath} /nix/store/a /nix/store/b 0\n`,
    );
    assert.ok(!existsSync(path.join(folder, 'injected')));
    assert.equal(readFileSync(spoolFile, 'utf8').split('\n').length, 3);
  }
});

test('200 concurrent hooks lose or tear no line', async (t) => {
  const { hookFile, spoolFile } = install(t);
  const run = promisify(execFile);
  const outputs = ['out', 'dev', 'lib'].map((name) => `${'x'.repeat(200)}-${name}`);
  const numbers = Array.from({ length: 200 }, (_, number) => String(number));
  await Promise.all(
    numbers.map((number) =>
      run(hookFile, {
        env: { DRV_PATH: number, OUT_PATHS: outputs.map((name) => `${number}-${name}`).join(' ') },
      }),
    ),
  );
  const entries = await collect(readSpool(spoolFile, { ended }));
  const expected = numbers.flatMap((drv) =>
    outputs.map((name) => ({ drvPath: drv, outPath: `${drv}-${name}` })),
  );
  const key = (entry: (typeof entries)[number]): string => `${entry.drvPath} ${entry.outPath}`;
  assert.deepEqual(entries.map(key).sort(), expected.map(key).sort());
});
