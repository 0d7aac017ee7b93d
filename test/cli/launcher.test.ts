import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  chmod,
  copyFile,
  mkdir,
  mkdtemp,
  realpath,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it, type TestContext } from 'node:test';

const launcher = join(import.meta.dirname, '../../cli/niche');

/** Creates a checkout whose niche prints its arguments and exits with 7. */
async function checkoutFor(context: TestContext) {
  const directory = await realpath(await mkdtemp(join(tmpdir(), 'niche launcher-')));
  context.after(() => rm(directory, { recursive: true }));
  const checkout = join(directory, 'checkout');
  await mkdir(join(checkout, 'cli'), { recursive: true });
  await mkdir(join(checkout, 'node_modules/.bin'), { recursive: true });
  await mkdir(join(directory, 'bin'));
  await copyFile(launcher, join(checkout, 'cli/niche'));
  await writeFile(
    join(checkout, 'cli/start.ts'),
    `const told: string[] = process.argv.slice(2);
    console.log(JSON.stringify({ told, folder: process.cwd(), node: process.execPath }));
    process.exitCode = 7;`,
  );
  return { directory, checkout, niche: join(checkout, 'cli/niche') };
}

function run(niche: string, options: { args?: readonly string[]; cwd?: string; PATH?: string }) {
  const { args = [], cwd, PATH = '/usr/bin:/bin' } = options;
  const { status, stdout, stderr } = spawnSync(niche, args, {
    cwd,
    env: { PATH },
    encoding: 'utf8',
  });
  return { status, stdout, stderr };
}

async function fakeNode(file: string, version: string): Promise<void> {
  const script = `#!/bin/sh\n[ "$1" = --version ] && { echo ${version}; exit; }\nexec '${process.execPath}' "$@"\n`;
  await writeFile(file, script);
  await chmod(file, 0o755);
}

it('runs the checkout on its own Node, from the folder of the caller', async (context) => {
  const { directory, checkout, niche } = await checkoutFor(context);
  await symlink(process.execPath, join(checkout, 'node_modules/.bin/node'));
  const args = ['build', '', 'two words', 'new\nline', '*', '--', '-x'];
  const { status, stdout, stderr } = run(niche, { args, cwd: directory });
  const node = await realpath(process.execPath);
  assert.deepEqual(JSON.parse(stdout), { told: args, folder: directory, node });
  assert.equal(status, 7);
  assert.equal(stderr, '');
});

it('finds its checkout through links, relative and absolute', async (context) => {
  const { directory, checkout, niche } = await checkoutFor(context);
  await symlink(process.execPath, join(checkout, 'node_modules/.bin/node'));
  await symlink('../checkout/cli/niche', join(directory, 'bin/relative'));
  await symlink(join(directory, 'bin/relative'), join(directory, 'bin/absolute'));
  await symlink('checkout/cli', join(directory, 'folder'));
  for (const name of ['bin/relative', 'bin/absolute', './bin/absolute', 'folder/niche']) {
    assert.equal(run(name, { cwd: directory }).status, 7, name);
  }
  const PATH = `${join(directory, 'bin')}:/usr/bin:/bin`;
  assert.equal(run('absolute', { PATH }).status, 7);
  assert.equal(run('sh', { args: ['niche'], cwd: join(niche, '..') }).status, 7);
});

it('uses the Node of PATH if it is new enough', async (context) => {
  const { directory, niche } = await checkoutFor(context);
  const PATH = `${join(directory, 'bin')}:/usr/bin:/bin`;
  for (const version of ['v24.0.0', 'v25.1.2', 'v100.0.0']) {
    await fakeNode(join(directory, 'bin/node'), version);
    assert.equal(run(niche, { PATH }).status, 7, version);
  }
});

it('prints the required Node and the command to run if none is new enough', async (context) => {
  const { directory, checkout, niche } = await checkoutFor(context);
  const bin = join(directory, 'bin');
  const advice = `run \`npm run setup\` in ${checkout}\n`;
  await fakeNode(join(bin, 'node'), 'v20.20.2');
  assert.deepEqual(run(niche, { PATH: `${bin}:/usr/bin:/bin` }), {
    status: 1,
    stdout: '',
    stderr: `niche: needs Node 24 or newer, and the one found is v20.20.2; ${advice}`,
  });
  await rm(join(bin, 'node'));
  assert.deepEqual(run(niche, { PATH: bin }), {
    status: 1,
    stdout: '',
    stderr: `niche: needs Node 24 or newer, and found none; ${advice}`,
  });
  await rm(join(checkout, 'node_modules'), { recursive: true });
  assert.deepEqual(run(niche, {}), {
    status: 1,
    stdout: '',
    stderr: `niche: its dependencies are not installed; ${advice}`,
  });
});
