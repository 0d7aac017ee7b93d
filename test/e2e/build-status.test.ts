import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test, type TestContext } from 'node:test';

import {
  createMachine,
  createYard,
  skipUnlessChroot,
  type DirectoryCache,
  type Machine,
  type Yard,
} from '../support/lab/e2e-machine.ts';
import { requireNix, type NixVersion } from '../support/lab/nix-lab.ts';

interface Place {
  readonly machine: Machine;
  readonly yard: Yard;
}

async function placeFor(t: TestContext): Promise<Place | null> {
  const nix = requireNix(t);
  if (nix === null) return null;
  const yard = await createYard(t);
  return { yard, machine: await machineIn(t, nix, yard) };
}

async function machineIn(t: TestContext, nix: NixVersion, yard: Yard): Promise<Machine> {
  const machine = await createMachine(t, { nix, settings: yard.settings });
  await machine.writeGraph([
    { name: 'lower', script: yard.trace('lower') },
    { name: 'upper', deps: ['lower'], script: yard.trace('upper') },
    { name: 'broken', deps: ['upper'], fails: true },
    { name: 'random', script: 'head -c 64 /dev/urandom > $out/random' },
  ]);
  return machine;
}

/** Creates another machine's cache, with `lower` and `random`. This machine has no key for it. */
async function foreignCache(t: TestContext, { machine, yard }: Place): Promise<DirectoryCache> {
  const other = await machineIn(t, machine.nix, yard);
  const cache = await other.makeCache('foreign');
  const args = ['--', '-f', 'default.nix', 'random', 'lower', '--no-link'];
  await other.nicheDoes(['build', '-u', cache.url, ...args]);
  return cache;
}

const build = (cache: DirectoryCache, flags: readonly string[], what: string): string[] => [
  ...['build', '-u', cache.url, ...flags, '--', '-f', 'default.nix', what, '--no-link'],
];

describe('exit statuses of niche build', { concurrency: false }, () => {
  test('without a key: fails before building, or builds from the cache without uploading', async (t) => {
    const here = await placeFor(t);
    if (here === null || skipUnlessChroot(t, here.machine)) return;
    const { machine, yard } = here;
    const foreign = await foreignCache(t, here);
    const before = await foreign.names();
    const traces = async (): Promise<number> => (await yard.traces()).length;
    const builtBefore = await traces();

    const required = await machine.niche(build(foreign, [], 'upper'));
    assert.equal(required.status, 1);
    assert.match(required.stderr, /^niche: no signing key found: .* is missing$/m);
    assert.match(required.stderr, /^hint: pass --secret-key-file/m);
    assert.doesNotMatch(required.stderr, /building/);
    assert.equal(await traces(), builtBefore);

    const off = await machine.nicheDoes(build(foreign, ['--upload', 'off'], 'lower'));
    assert.match(off.stderr, /copying path/);
    assert.equal(await traces(), builtBefore);

    const tried = await machine.nicheDoes(build(foreign, ['--upload', 'try'], 'upper'));
    assert.match(
      tried.stderr,
      /^niche: warning: building without uploading: no signing key found/m,
    );
    assert.deepEqual((await yard.traces()).slice(builtBefore), ['upper']);

    const missing = { ...foreign, url: `file://${machine.folder}/nowhere` };
    assert.equal((await machine.niche(build(missing, [], 'broken'))).status, 1);
    const without = await machine.niche(build(missing, ['--upload', 'try'], 'upper'));
    assert.equal(without.status, 0, without.stderr);
    assert.match(without.stderr, /^niche: warning: building without the cache: /m);
    assert.equal(existsSync(join(machine.folder, 'nowhere')), false);
    await machine.nicheDoes(['build', '--upload', 'off', '--', '-f', 'default.nix', 'upper']);
    assert.deepEqual(await foreign.names(), before);
  });

  test('the status of nix when nix fails, regardless of the upload', async (t) => {
    const here = await placeFor(t);
    if (here === null) return;
    const { machine } = here;
    const cache = await machine.makeCache();
    const failed = await machine.niche(build(cache, ['--no-publish', '--wait', '1s'], 'broken'));
    assert.equal(failed.status, 1, failed.stderr);
    assert.match(failed.stderr, /^niche: 2 paths staged in /m);
    assert.deepEqual(await cache.names(), []);
    const usage = await machine.niche(['build', '-u', cache.url, '--', '--no-such-flag']);
    assert.equal(usage.status, (await machine.run('nix', ['build', '--no-such-flag'])).status);
    const killed = await machine.niche(['exec', '-u', cache.url, '--', 'sh', '-c', 'kill -9 $$']);
    assert.equal(killed.status, 137);
    const odd = await machine.niche(['exec', '-u', cache.url, '--', 'sh', '-c', 'exit 42']);
    assert.equal(odd.status, 42);
    const absent = await machine.niche(['exec', '-u', cache.url, '--', 'no-such-program']);
    assert.equal(absent.status, 1);
    assert.match(absent.stderr, /^niche: cannot run "no-such-program": no such program$/m);
  });

  test('75 when no publisher finishes in time, unless the build does not wait', async (t) => {
    const here = await placeFor(t);
    if (here === null) return;
    const { machine } = here;
    const cache = await machine.makeCache();
    const open = await machine.niche(build(cache, ['--no-publish', '--wait', '1s'], 'lower'));
    assert.equal(open.status, 75, open.stderr);
    assert.match(
      open.stderr,
      /^niche: 1 path staged, for another process to publish\nhint: niche status -u \S+ \S+$/m,
    );
    await machine.nicheDoes(build(cache, ['--no-publish'], 'upper'));
    await machine.nicheDoes(['worker', cache.url, '--once']);
    assert.deepEqual(await cache.names(), ['lower', 'upper']);
  });

  test('another build of a path is a warning, with --strict 76, except with --upload try', async (t) => {
    const here = await placeFor(t);
    if (here === null || skipUnlessChroot(t, here.machine)) return;
    const { machine } = here;
    const foreign = await foreignCache(t, here);
    const key = ['--secret-key-file', foreign.secretKeyFile, '--no-substitute'];
    const before = await foreign.snapshot();
    const warned = await machine.nicheDoes(build(foreign, key, 'random'));
    assert.match(
      warned.stderr,
      /^niche: warning: built differently: the cache already has .*-random with other.*\nhint: niche audit -u \S+ --path \S+-random$/m,
    );
    assert.match(warned.stderr, /^niche: 1 path built differently in /m);
    const strict = ['--strict', ...key];
    const rejected = await machine.niche(build(foreign, strict, 'random'));
    assert.equal(rejected.status, 76, rejected.stderr);
    assert.match(
      rejected.stderr,
      /^niche: rejected \(conflict\): the cache already has .*-random with other/m,
    );
    const tried = await machine.nicheDoes(build(foreign, ['--upload', 'try', ...strict], 'random'));
    assert.match(tried.stderr, /^niche: rejected \(conflict\)/m);
    const [, audit = ''] = /^hint: niche (audit .*)$/m.exec(warned.stderr) ?? [];
    assert.match((await machine.nicheDoes(audit.split(' '))).stdout, /-random$/m);
    assert.deepEqual(await foreign.snapshot(), before);
  });
});
