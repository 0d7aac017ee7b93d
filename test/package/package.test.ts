import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';

import packageJson from '../../package.json' with { type: 'json' };

const exec = promisify(execFile);
const checkout = join(import.meta.dirname, '../..');

describe('the npm package, installed elsewhere', () => {
  let folder = '';

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'niche package-'));
    await exec('npm', ['pack', '--silent', '--pack-destination', folder], { cwd: checkout });
    await writeFile(join(folder, 'package.json'), '{}');
    const tarball = join(folder, `niche-${packageJson.version}.tgz`);
    // There is no registry, so the install fails if the package has dependencies.
    await exec('npm', ['install', '--offline', '--no-audit', '--no-fund', tarball], {
      cwd: folder,
    });
  });

  after(() => rm(folder, { recursive: true, force: true }));

  function niche(args: readonly string[], options: { node?: string; nodeArgs?: string[] } = {}) {
    const { node = process.execPath, nodeArgs = [] } = options;
    const command = join(folder, 'node_modules/.bin/niche');
    return spawnSync(node, [...nodeArgs, command, ...args], {
      cwd: folder,
      env: { PATH: '/usr/bin:/bin', HOME: folder },
      encoding: 'utf8',
    });
  }

  it('installs no dependencies', async () => {
    const modules = await readdir(join(folder, 'node_modules'));
    assert.deepEqual(modules.filter((name) => !name.startsWith('.')).sort(), ['niche']);
    const files = await readdir(join(folder, 'node_modules/niche'));
    assert.ok(!files.includes('cli') && !files.includes('test'));
  });

  // Importing it adds 20 ms to each start: Node compiles undici for one of its exports.
  it('does not import node:http', async () => {
    const dist = join(folder, 'node_modules/niche/dist');
    const bundles = (await readdir(dist, { recursive: true })).filter((name) =>
      name.endsWith('.mjs'),
    );
    assert.ok(bundles.length > 1);
    for (const bundle of bundles) {
      const code = await readFile(join(dist, bundle), 'utf8');
      assert.doesNotMatch(code, /from ?["'](?:node:)?http["']/, bundle);
    }
  });

  it('installs a command on PATH', () => {
    const { status, stdout } = spawnSync('niche', ['--version'], {
      env: {
        PATH: [join(folder, 'node_modules/.bin'), dirname(process.execPath)].join(delimiter),
      },
      encoding: 'utf8',
    });
    assert.deepEqual([status, stdout], [0, `niche ${packageJson.version}\n`]);
  });

  it('prints help', () => {
    const { status, stdout } = niche(['--help']);
    assert.equal(status, 0);
    assert.match(stdout, /^Usage: niche .*^ {2}build /ms);
  });

  it('creates a cache and refuses to create it twice', () => {
    const args = ['init', join(folder, 'cache'), '--name', 'packed', '--no-upstream'];
    assert.equal(niche(args).status, 0);
    const again = niche(args);
    assert.equal(again.status, 1);
    assert.match(again.stderr, /^niche: there is a cache at file:.*already\n/);
  });

  it('fails with a message and an exit status', () => {
    const { status, stdout, stderr } = niche(['worker', join(folder, 'nothing'), '--once']);
    assert.equal(status, 1);
    assert.equal(stdout, '');
    assert.match(
      stderr,
      /^niche: opening the bucket file:[^\n]* expected a directory, got nothing\n/,
    );
  });

  it('generates a deployment to AWS that packages unchanged', async () => {
    const target = join(folder, 'team');
    const laidOut = niche(['infra', 'aws', target]);
    assert.equal(laidOut.status, 0, laidOut.stderr);
    for (const file of ['publish.mjs', 'sweep.mjs', 'third-party-licenses.txt']) {
      assert.ok(existsSync(join(target, 'infra/aws/functions', file)), file);
    }
    const osls = join(checkout, 'node_modules/osls/bin/serverless.js');
    await exec(process.execPath, [osls, 'package', '--package', 'packaged'], {
      cwd: target,
      // Use a separate home, without this machine's AWS configuration.
      env: { PATH: process.env['PATH'], HOME: folder, SLS_TELEMETRY_DISABLED: '1' },
    });
    const packaged = await readdir(join(target, 'packaged'));
    assert.ok(packaged.includes('cloudformation-template-update-stack.json'));
    for (const artifact of ['publish.zip', 'sweep.zip']) {
      const { size } = await stat(join(target, 'packaged', artifact));
      assert.ok(size > 100_000 && size < 1_048_576, `${artifact} has ${size} bytes`);
    }
  });

  it('reports the required Node version, on a Node that claims to be older', async () => {
    const pretend = join(folder, 'pretend.cjs');
    const versions = '{ value: { ...process.versions, node: "23.9.0" } }';
    await writeFile(pretend, `Object.defineProperty(process, 'versions', ${versions});`);
    assertRefused(niche(['--version'], { nodeArgs: ['--require', pretend] }), '23.9.0');
  });

  it('reports the required Node version, on an older Node', (t) => {
    const old = oldNode();
    if (old === null) {
      t.skip('no Node older than 24 is on PATH: install Debian’s `nodejs`');
      return;
    }
    assertRefused(niche(['--version'], { node: old.file }), old.version);
  });
});

function assertRefused(
  { status, stdout, stderr }: { status: number | null; stdout: string; stderr: string },
  version: string,
): void {
  assert.equal(status, 1);
  assert.equal(stdout, '');
  assert.match(stderr, /^niche needs Node 24.5 or newer, and \/.* is [0-9.]+\.\n$/);
  assert.ok(stderr.includes(` is ${version}.`));
}

function oldNode(): { file: string; version: string } | null {
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    const file = join(folder, 'node');
    if (!existsSync(file)) continue;
    const version = spawnSync(file, ['-p', 'process.versions.node'], { encoding: 'utf8' }).stdout;
    if (Number.parseInt(version) < 24) return { file, version: version.trim() };
  }
  return null;
}
