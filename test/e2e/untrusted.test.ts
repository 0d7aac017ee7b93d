import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { createMachine, createYard } from '../support/lab/e2e-machine.ts';
import { everyNix } from '../support/lab/nix-lab.ts';
import { until } from '../support/assert/until.ts';

for (const nix of everyNix()) {
  const options = { concurrency: false };
  describe(`an untrusted user of a daemon, nix ${nix.version}`, options, () => {
    test('publishes while the build runs, and warns once', async (t) => {
      const yard = await createYard(t);
      const machine = await createMachine(t, { nix, settings: yard.settings });
      await machine.writeGraph([
        { name: 'before' },
        { name: 'lower', outputs: ['out', 'dev'] },
        { name: 'gated', deps: ['lower', 'before'], script: yard.wait('go') },
        { name: 'broken', deps: ['lower'], fails: true },
        { name: 'all', deps: ['gated', 'broken'] },
        { name: 'foreign' },
      ]);
      const { env } = await machine.daemon();
      await machine.output('nix-build', ['--no-out-link', '-A', 'before']);
      const cache = await machine.makeCache();

      let hasEnded = false;
      const args = ['-f', 'default.nix', '--keep-going', 'all'];
      const building = machine
        .niche(['build', '-u', cache.url, '--', ...args], { env })
        .finally(() => {
          hasEnded = true;
        });
      try {
        await until('what is built is published', async () => {
          assert.equal(hasEnded, false, hasEnded ? (await building).stderr : '');
          return (await cache.names()).length === 2;
        });
        // A path of another build on the same machine.
        await machine.output('nix-build', ['--no-out-link', '-A', 'foreign'], { env });
      } finally {
        await yard.open('go');
      }
      const { status, stdout, stderr } = await building;
      assert.equal(status, 1, stderr);
      assert.equal(stdout, '');
      assert.deepEqual(await cache.names(), ['before', 'gated', 'lower', 'lower-dev']);
      const told = stderr.split('\n').filter((line) => line.includes('does not trust this user'));
      assert.equal(told.length, 1, stderr);
      assert.match(told[0]!, /^niche: /);
      assert.doesNotMatch(stderr, /untrusted substituter|restricted setting/);
      assert.match(stderr, /^niche: 4 paths published/m);

      const other = await machine.makeCache('other');
      const pushed = ['push', '-u', other.url, '--', '-f', 'default.nix', 'gated'];
      await machine.nicheDoes(pushed, { env });
      assert.deepEqual(await other.names(), ['before', 'gated', 'lower']);
    });

    test('gets a warning from niche exec that other builds may be included', async (t) => {
      const machine = await createMachine(t, { nix });
      await machine.writeGraph([{ name: 'lower' }, { name: 'upper', deps: ['lower'] }]);
      const { env } = await machine.daemon();
      const cache = await machine.makeCache();
      const command = ['sh', '-c', 'nix-build --no-out-link -A upper'];
      const ran = await machine.nicheDoes(['exec', '-u', cache.url, '--', ...command], { env });
      assert.match(ran.stderr, /^niche: .*which may include other builds$/m);
      assert.match(ran.stdout, /-upper\n$/);
      assert.deepEqual(await cache.names(), ['lower', 'upper']);
    });
  });
}
