import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmod, copyFile, mkdir, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it, type TestContext } from 'node:test';
import { promisify } from 'node:util';

const script = join(import.meta.dirname, '../../scripts/setup.mjs');

/** A checkout that depends on a folder of its own, so that npm needs no network. */
async function checkoutFor(context: TestContext): Promise<string> {
  const checkout = await mkdtemp(join(tmpdir(), 'niche-setup-'));
  context.after(() => rm(checkout, { recursive: true }));
  await mkdir(join(checkout, 'scripts'));
  await mkdir(join(checkout, 'local'));
  await copyFile(script, join(checkout, 'scripts/setup.mjs'));
  const dependencies = { local: 'file:local' };
  await writeJson(join(checkout, 'local/package.json'), { name: 'local', version: '1.0.0' });
  await writeJson(join(checkout, 'package.json'), { name: 'checkout', dependencies });
  await writeLockfile(checkout, {});
  return checkout;
}

async function writeLockfile(checkout: string, more: object): Promise<void> {
  await writeJson(join(checkout, 'package-lock.json'), {
    name: 'checkout',
    lockfileVersion: 3,
    packages: {
      '': { name: 'checkout', dependencies: { local: 'file:local' } },
      local: { version: '1.0.0' },
      'node_modules/local': { resolved: 'local', link: true },
    },
    ...more,
  });
}

async function writeJson(file: string, value: unknown): Promise<void> {
  await writeFile(file, JSON.stringify(value));
}

async function setUp(checkout: string): Promise<string> {
  const { stdout } = await promisify(execFile)(process.execPath, [
    join(checkout, 'scripts/setup.mjs'),
  ]);
  return stdout;
}

it('installs once for a lockfile, and again for another', async (context) => {
  const checkout = await checkoutFor(context);
  assert.match(await setUp(checkout), /installed node_modules.*\(\d+\.\d s\)\n$/s);
  await stat(join(checkout, 'node_modules/local/package.json'));
  assert.match(await setUp(checkout), /^setup: node_modules is current; Node v\d+.*\n$/);
  await writeLockfile(checkout, { requires: true });
  assert.match(await setUp(checkout), /installed/);
  await rm(join(checkout, 'node_modules/.package-lock.json'));
  assert.match(await setUp(checkout), /installed/);
  assert.deepEqual(await readdir(join(checkout, '.tools')), []);
});

it('installs once when it runs twice concurrently, also after one was killed', async (context) => {
  const checkout = await checkoutFor(context);
  await mkdir(join(checkout, '.tools'));
  await writeFile(join(checkout, '.tools/setup.lock'), '999999999\n');
  const printed = await Promise.all([setUp(checkout), setUp(checkout)]);
  assert.equal(printed.filter((text) => text.includes('setup: installed')).length, 1);
  assert.equal(printed.filter((text) => text.includes('current')).length, 1);
  assert.deepEqual(await readdir(join(checkout, '.tools')), []);
});

it('fails with npm’s message', async (context) => {
  const checkout = await checkoutFor(context);
  await writeJson(join(checkout, 'package.json'), { dependencies: { other: 'file:other' } });
  await assert.rejects(setUp(checkout), (error: Error & { code: number; stderr: string }) => {
    assert.equal(error.code, 1);
    assert.match(error.stderr, /npm error[^]*setup: npm ci failed/);
    return true;
  });
  assert.deepEqual(await readdir(join(checkout, '.tools')), []);
});

it('removes a Node that does not run here', async (context) => {
  const checkout = await checkoutFor(context);
  await setUp(checkout);
  await mkdir(join(checkout, 'node_modules/.bin'), { recursive: true });
  const node = join(checkout, 'node_modules/.bin/node');
  await writeFile(node, '#!/nowhere/loader\n');
  await chmod(node, 0o755);
  assert.match(await setUp(checkout), new RegExp(`current; Node ${process.version} `));
  await assert.rejects(stat(node), { code: 'ENOENT' });
});
