import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';

import { createMachine, createYard, nameOf, skipUnlessChroot } from '../support/lab/e2e-machine.ts';
import { graphFlake } from '../support/lab/nix-graph.ts';
import { everyNix } from '../support/lab/nix-lab.ts';

/** A record of `--report`. */
interface Reported {
  readonly path: string;
  readonly status: string;
  readonly code?: string;
}

async function readReport(file: string): Promise<Reported[]> {
  const lines = (await readFile(file, 'utf8')).split('\n').slice(0, -1);
  const records = lines.map((line) => JSON.parse(line) as Reported | { lookups: object });
  return records.filter((record) => 'path' in record);
}

for (const nix of everyNix()) {
  const isOld = nix.version.startsWith('2.8.');
  const options = { concurrency: false };
  describe(`paths that niche build detects, nix ${nix.version}`, options, () => {
    test('outputs, fixed outputs, imports and earlier builds; other hooks run, stdout is clean', async (t) => {
      const yard = await createYard(t);
      const hook = join(yard.folder, 'hook');
      await writeFile(hook, `#!/bin/sh\necho "hook $DRV_PATH" >> ${yard.folder}/traces\n`, {
        mode: 0o755,
      });
      const settings = { ...yard.settings, 'post-build-hook': hook };
      const machine = await createMachine(t, { nix, settings });
      await machine.writeGraph([
        { name: 'many', outputs: ['out', 'dev', 'doc'] },
        { name: 'fixed', fixedOutput: 'fixed contents' },
        { name: 'source' },
        { name: 'imports', importsFrom: 'source' },
        { name: 'before', script: yard.trace('before') },
        { name: 'top', deps: ['many', 'fixed', 'imports', 'before'] },
        { name: 'apart' },
      ]);
      await machine.output('nix-build', ['--no-out-link', '-A', 'before', '-A', 'apart']);
      const cache = await machine.makeCache();
      const printing = isOld ? ['--json'] : ['--print-out-paths'];
      const built = await machine.nicheDoes([
        ...['build', '-u', cache.url, '--'],
        ...['-f', 'default.nix', 'top', '--out-link', 'kept', ...printing],
      ]);
      const top = await machine.output('readlink', ['kept']);
      const printed = isOld
        ? (JSON.parse(built.stdout) as [{ outputs: { out: string } }])[0].outputs.out
        : built.stdout.trimEnd();
      assert.equal(printed, top);

      const wanted = [
        'before',
        'fixed',
        'imports',
        'many',
        'many-dev',
        'many-doc',
        'source',
        'top',
      ];
      assert.deepEqual(await cache.names(), wanted);
      const traces = await yard.traces();
      const hooked = traces.filter((line) => line.startsWith('hook ')).map(nameOf);
      for (const name of ['apart', 'before', 'fixed', 'imports', 'many', 'source', 'top']) {
        assert.equal(hooked.filter((drv) => drv === `${name}.drv`).length, 1, hooked.join());
      }

      const published = await cache.snapshot();
      const rebuild = ['-f', 'default.nix', 'before', '--rebuild', '--no-link'];
      const again = await machine.nicheDoes(['build', '-u', cache.url, '--', ...rebuild]);
      assert.match(again.stderr, /^niche: 1 path already there in /m);
      assert.equal((await yard.traces()).filter((trace) => trace === 'before').length, 2);
      assert.deepEqual(await cache.snapshot(), published);
    });

    test('paths from an upstream are not uploaded', async (t) => {
      const yard = await createYard(t);
      const parts = [
        { name: 'lower', script: yard.trace('lower') },
        { name: 'upper', deps: ['lower'] },
      ];
      const { settings } = yard;
      const first = await createMachine(t, { nix, settings });
      await first.writeGraph(parts);
      const upstream = await first.makeCache('upstream');
      const lower = await first.output('nix-build', ['--no-out-link', '-A', 'lower']);
      await first.nicheDoes(['push', '-u', upstream.url, lower]);
      if (skipUnlessChroot(t, first)) return;

      const machine = await createMachine(t, {
        nix,
        settings: { ...settings, substituters: upstream.url },
        trustedPublicKeys: [upstream.publicKey],
      });
      await machine.writeGraph(parts);
      const cache = await machine.makeCache('acme', [
        ...['--upstream', `${upstream.url}=${upstream.publicKey}`],
      ]);
      const report = join(machine.work, 'report');
      const built = await machine.nicheDoes([
        ...['build', '-u', cache.url, '--report', report, '--'],
        ...['-f', 'default.nix', 'upper', '--no-link'],
      ]);
      assert.match(built.stderr, /^niche: 1 path published \(.*\), 1 in an upstream in /m);
      assert.deepEqual(await cache.names(), ['upper']);
      assert.deepEqual(await yard.traces(), ['lower']);
      const outcomes = (await readReport(report)).map(({ path, status, code }) => [
        ...[nameOf(path), status, code],
      ]);
      assert.deepEqual(outcomes.sort(), [
        ['lower', 'skipped', 'upstream'],
        ['upper', 'published', undefined],
      ]);

      const reader = await createMachine(t, {
        nix,
        settings: { ...settings, substituters: `${cache.url} ${upstream.url}` },
        trustedPublicKeys: [cache.publicKey, upstream.publicKey],
      });
      const [upper] = await cache.paths();
      await reader.output('nix-store', ['--realise', upper!]);
      assert.deepEqual(await yard.traces(), ['lower']);
    });

    test('flakes, and nix-build through niche exec', async (t) => {
      const machine = await createMachine(t, { nix });
      const parts = [{ name: 'lower' }, { name: 'upper', deps: ['lower'] }, { name: 'other' }];
      await machine.writeGraph([...parts, { name: 'broken', fails: true }]);
      await writeFile(join(machine.work, 'flake.nix'), graphFlake());
      const flake = await machine.makeCache('flake');
      await machine.nicheDoes(['build', '-u', flake.url, '--', 'path:.#upper', 'path:.#other']);
      assert.deepEqual(await flake.names(), ['lower', 'other', 'upper']);

      const classic = await machine.makeCache('classic');
      const env = { NICHE_CACHE_URL: classic.url };
      const nixBuild = ['exec', '--', 'nix-build', '--out-link', 'kept'];
      const built = await machine.nicheDoes([...nixBuild, '-A', 'upper'], { env });
      assert.equal(built.stdout.trim(), await machine.output('readlink', ['kept']));
      assert.deepEqual(await classic.names(), ['lower', 'upper']);

      const failed = await machine.niche([...nixBuild, '-A', 'broken'], { env });
      const alone = await machine.run('nix-build', ['--no-out-link', '-A', 'broken']);
      assert.equal(failed.status, alone.status);
      assert.match(failed.stderr, /^niche: nothing to upload/m);

      const unknown = await machine.niche([...nixBuild, '-A', 'nowhere'], { env });
      assert.equal(unknown.status, 1);
      assert.match(unknown.stderr, /^error: .*'nowhere'/);
      const ours = unknown.stderr.split('niche: ').slice(1);
      assert.equal(ours.length, 1, unknown.stderr);
      assert.match(ours[0]!, /^nothing to upload in .*\n$/);
    });
  });
}
