import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';

import { runCommand } from '../../support/lab/command.ts';
import type { CommandResult } from '../../support/lab/command.ts';
import { requireNix } from '../../support/lab/nix-lab.ts';
import { temporaryFolder } from '../../support/cache/small-cache.ts';

const key = 'cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=';

interface Setting {
  readonly folder: string;
  readonly niche: (
    args: readonly string[],
    env?: Readonly<Record<string, string>>,
  ) => Promise<CommandResult>;
  /** A field of the new cache’s niche.json. */
  readonly field: (name: string) => Promise<unknown>;
  readonly cacheInfo: () => Promise<string>;
}

async function setUp(t: TestContext): Promise<Setting> {
  const folder = await temporaryFolder(t);
  const at = (name: string): Promise<string> => readFile(join(folder, 'cache', name), 'utf8');
  return {
    folder,
    niche: (args, env = {}) =>
      runCommand(args, { cwd: folder, env: { HOME: folder, PATH: '', ...env } }),
    field: async (name) => (JSON.parse(await at('niche.json')) as Record<string, unknown>)[name],
    cacheInfo: () => at('nix-cache-info'),
  };
}

const init = ['init', './cache', '--name', 'acme'];

describe('init', () => {
  test('ignores the parameters that Nix takes from the URL of a cache', async (t) => {
    const { niche, field } = await setUp(t);
    const made = await niche([
      ...init,
      ...['--upstream', `https://cache.nixos.org/?priority=10&trusted=1=${key}`],
      ...['--upstream', `cache.example=${key}`],
      ...['--upstream', `s3://acme?region=x&endpoint=http://minio:9000&compression=zstd=${key}`],
      ...['--substituter', 'acme.example/x/?want-mass-query=true'],
    ]);
    assert.equal(made.status, 0, made.stderr);
    const upstreams = (await field('upstreams')) as { url: string }[];
    assert.deepEqual(
      upstreams.map(({ url }) => url),
      [
        'https://cache.nixos.org',
        'https://cache.example',
        's3://acme?region=x&endpoint=http://minio:9000',
      ],
    );
    assert.equal(await field('substituter'), 'https://acme.example/x');
  });

  test('finds cache.nixos.org in the settings of Nix, with parameters too', async (t) => {
    const nix = requireNix(t);
    if (!nix) return;
    const { niche, field } = await setUp(t);
    const made = await niche(init, {
      PATH: `${nix.bin}:${process.env['PATH'] ?? ''}`,
      NIX_BIN_DIR: nix.bin,
      NIX_CONFIG: 'substituters = https://cache.nixos.org?priority=10',
    });
    assert.equal(made.status, 0, made.stderr);
    assert.deepEqual(await field('upstreams'), [
      { url: 'https://cache.nixos.org', publicKey: key },
    ]);
  });

  test('refuses every URL that later commands could not open, and makes nothing', async (t) => {
    const { niche, folder } = await setUp(t);
    for (const args of [
      ['--upstream', `ftp://a.example=${key}`],
      ['--upstream', `https://a.example?token=x=${key}`],
      ['--upstream', `s3://acme?nonsense=1=${key}`],
      ['--upstream', `https://a.example`],
      ['--substituter', 'ftp://a.example'],
      ['--substituter', 'https://a.example?token=x'],
    ]) {
      const refused = await niche([...init, ...args]);
      assert.equal(refused.status, 1, args.join(' '));
      assert.doesNotMatch(refused.stderr, /internal error/);
    }
    assert.ok(!existsSync(join(folder, 'cache')));
  });

  test('refuses credentials in a URL, and shows none', async (t) => {
    const { niche, folder } = await setUp(t);
    for (const args of [
      [...init, '--upstream', `https://ci:hush@a.example=${key}`],
      [...init, '--upstream', `https://ci:a/hush@a.example=${key}`],
      [...init, '--substituter', 'https://hush@a.example'],
      [...init, '--staging', 's3://AKIA:hush@acme'],
      ['init', 's3://AKIA:hush@acme', '--name', 'acme'],
      ['use', 'https://ci:hush@a.example'],
      ['use', 'https://ci:a#hush@a.example'],
      ['use', 'ci:hush@a.example'],
      ['show', '-u', 'https://ci:hush@a.example'],
    ]) {
      const { status, stdout, stderr } = await niche(args);
      assert.equal(status, 1);
      assert.match(stderr, /must not contain a user or a password/);
      assert.doesNotMatch(stdout + stderr, /hush/);
    }
    const push = await niche(['push', '/nix/store/x'], {
      NICHE_CACHE_URL: 'https://ci:hush@a.example',
    });
    assert.match(push.stderr, /must not contain a user or a password/);
    assert.doesNotMatch(push.stderr, /hush/);
    const misplaced = await niche([...init, '--priority', 'https://ci:hush@a.example']);
    assert.match(misplaced.stderr, /expected a whole number/);
    assert.doesNotMatch(misplaced.stderr, /hush/);
    assert.ok(!existsSync(join(folder, 'cache')));
  });
});

test('the priority of a cache is set by init, and changed by config set', async (t) => {
  const { niche, cacheInfo } = await setUp(t);
  const made = await niche([...init, '--priority', '30', '--json']);
  assert.equal(made.status, 0, made.stderr);
  assert.equal((JSON.parse(made.stdout) as { priority: number }).priority, 30);
  assert.match(await cacheInfo(), /^Priority: 30$/m);
  const set = (value: string) =>
    niche(['config', 'set', 'priority', value, '-u', './cache', '--json']);
  const changed = await set('20');
  assert.equal(changed.status, 0, changed.stderr);
  assert.deepEqual(JSON.parse(changed.stdout), {
    document: 'nix-cache-info',
    priority: 20,
    before: 30,
    change: 'replaced',
  });
  assert.match(await cacheInfo(), /^Priority: 20$/m);
  for (const wrong of ['x', '1.5', '']) assert.equal((await set(wrong)).status, 1, wrong);
  assert.equal((await niche(['config', 'set', 'name', '1', '-u', './cache'])).status, 1);
  assert.match(await cacheInfo(), /^Priority: 20$/m);
});
