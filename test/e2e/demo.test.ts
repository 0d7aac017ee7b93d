import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { test, type TestContext } from 'node:test';

import { requireNix } from '../support/lab/nix-lab.ts';

const demo = join(import.meta.dirname, '../demo.ts');

/** Starts the demo with its own temporary folder, which must be empty when the demo ends. */
async function startDemo(t: TestContext, env: Readonly<Record<string, string>>) {
  const folder = await mkdtemp(join(tmpdir(), 'niche-demo-test-'));
  t.after(() => rm(folder, { recursive: true }));
  const made = join(folder, 'tmp');
  const noTools = join(folder, 'tools');
  await Promise.all([mkdir(made), mkdir(noTools)]);
  const child = spawn(process.execPath, [demo], {
    env: { HOME: folder, TMPDIR: made, NICHE_TOOLS: noTools, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const closed = once(child, 'close');
  return {
    child,
    end: async () => {
      const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr), closed]);
      assert.deepEqual(await readdir(made), []);
      return { status: child.exitCode, stdout, stderr };
    },
  };
}

function stepsOf(stdout: string): number[] {
  return [...stdout.matchAll(/^(\d+)\. /gm)].map(([, number]) => Number(number));
}

test('the demo with Nix builds, installs elsewhere and leaves no files', async (t) => {
  const nix = requireNix(t);
  if (nix === null) return;
  const demo = await startDemo(t, { PATH: [nix.bin, '/usr/bin', '/bin'].join(delimiter) });
  const { status, stdout, stderr } = await demo.end();
  assert.deepEqual([status, stderr], [0, '']);
  assert.ok(stdout.includes(`Using Nix ${nix.version} from ${nix.bin} `));
  assert.deepEqual(stepsOf(stdout), [1, 2, 3, 4, 5, 6, 7]);
  assert.match(stdout, /niche: 3 paths published/);
  assert.match(stdout, /app contains: \S+-hello \S+-world$/m);
  assert.match(stdout, /^Done in .*\. All files of the demo are removed\.$/m);
});

test('the demo without Nix publishes a path that niche packs', async (t) => {
  const demo = await startDemo(t, { PATH: '/nowhere' });
  const { status, stdout, stderr } = await demo.end();
  assert.deepEqual([status, stderr], [0, '']);
  assert.deepEqual(stepsOf(stdout), [1, 2, 3, 4, 5]);
  assert.match(stdout, /^ +published \/nix\/store\/\S+-greeting$/m);
  assert.match(stdout, /^Done in .*\. All files of the demo are removed\.$/m);
});

test('an interrupted demo leaves no files', async (t) => {
  const { child, end } = await startDemo(t, { PATH: '/nowhere' });
  child.stdout.once('data', () => child.kill('SIGINT'));
  const { status, stdout, stderr } = await end();
  assert.equal(status, 130);
  assert.equal(stderr, '\ndemo: interrupted\n');
  assert.doesNotMatch(stdout, /^Done/m);
});
