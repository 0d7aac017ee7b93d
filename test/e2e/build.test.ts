import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';

import {
  createMachine,
  createYard,
  skipUnlessChroot,
  type Yard,
} from '../support/lab/e2e-machine.ts';
import type { GraphPart } from '../support/lab/nix-graph.ts';
import { everyNix } from '../support/lab/nix-lab.ts';
import { until } from '../support/assert/until.ts';

/** `gated` waits for the test; `all` can't be built, since `broken` fails. */
function failingGraph(yard: Yard): GraphPart[] {
  return [
    { name: 'lower', script: yard.trace('lower') },
    { name: 'upper', deps: ['lower'], script: yard.trace('upper') },
    { name: 'gated', deps: ['upper'], script: `${yard.wait('go')}; ${yard.trace('gated')}` },
    { name: 'broken', deps: ['lower'], fails: true },
    { name: 'all', deps: ['gated', 'broken'] },
  ];
}

for (const nix of everyNix()) {
  describe(`niche build, nix ${nix.version}`, { concurrency: false }, () => {
    test('of a failing graph: finished paths are installable during the build, and stay', async (t) => {
      const yard = await createYard(t);
      const builder = await createMachine(t, { nix, settings: yard.settings });
      await builder.writeGraph(failingGraph(yard));
      const cache = await builder.makeCache();

      let hasEnded = false;
      const args = ['-f', 'default.nix', '--keep-going', 'all'];
      const building = builder.niche(['build', '-u', cache.url, '--', ...args]).finally(() => {
        hasEnded = true;
      });
      try {
        await until('two paths are published', async () => {
          assert.equal(hasEnded, false, hasEnded ? (await building).stderr : '');
          return (await cache.names()).length === 2;
        });
        const [lower, upper] = (await cache.paths()).sort((a, b) => (a < b ? 1 : -1));
        if (builder.kind === 'chroot') {
          const trustedPublicKeys = [cache.publicKey];
          const reader = await createMachine(t, { nix, trustedPublicKeys });
          await reader.output('nix', ['copy', '--from', cache.url, lower!, upper!]);
          assert.ok(existsSync(join(reader.realPath(upper!), 'name')));
          await reader.output('nix', ['store', 'verify', '-r', lower!, upper!]);
        }
        assert.equal(hasEnded, false);
        assert.deepEqual((await yard.traces()).sort(), ['lower', 'upper']);
      } finally {
        await yard.open('go');
      }

      const { status, stdout, stderr } = await building;
      assert.equal(status, (await builder.run('nix', ['build', ...args])).status);
      assert.equal(status, 1);
      assert.equal(stdout, '');
      assert.match(stderr, /broken fails on purpose/);
      assert.match(stderr, /^niche: 3 paths published \(.* B\) in .* s$/m);
      assert.deepEqual(await cache.names(), ['gated', 'lower', 'upper']);
      await builder.nicheDoes(['verify', '-u', cache.url]);
    });

    test('paths of an earlier attempt are cached too, and a second machine builds nothing', async (t) => {
      const yard = await createYard(t);
      const builder = await createMachine(t, { nix, settings: yard.settings });
      await yard.open('go');
      await builder.writeGraph(failingGraph(yard));
      const args = ['-f', 'default.nix', '--keep-going', 'all'];
      assert.equal((await builder.run('nix', ['build', ...args])).status, 1);
      const built = (await yard.traces()).sort();
      assert.deepEqual(built, ['gated', 'lower', 'upper']);

      const cache = await builder.makeCache();
      const again = await builder.niche(['build', '-u', cache.url, '--', ...args]);
      assert.equal(again.status, 1, again.stderr);
      assert.deepEqual(await cache.names(), ['gated', 'lower', 'upper']);
      assert.deepEqual((await yard.traces()).sort(), built);

      if (skipUnlessChroot(t, builder)) return;
      const second = await createMachine(t, { nix, settings: yard.settings });
      await second.writeGraph(failingGraph(yard));
      const key = ['--secret-key-file', cache.secretKeyFile];
      const taken = await second.nicheDoes([
        ...['build', '-u', cache.url, ...key, '--', '-f', 'default.nix', 'gated', '--no-link'],
      ]);
      assert.match(taken.stderr, /copying path/);
      assert.match(taken.stderr, /^niche: 3 paths already there in .* s$/m);
      assert.deepEqual((await yard.traces()).sort(), built);
      await second.output('nix-store', ['--verify', '--check-contents']);
    });
  });
}
