import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test, type TestContext } from 'node:test';

import { createMachine, skipUnlessChroot, type Machine } from '../support/lab/e2e-machine.ts';
import { graphFlake } from '../support/lab/nix-graph.ts';
import { everyNix, type NixVersion } from '../support/lab/nix-lab.ts';

/** Creates a machine that has `lower` and `upper` only as expressions. */
async function machineWith(t: TestContext, nix: NixVersion): Promise<Machine> {
  const machine = await createMachine(t, { nix, experimentalFeatures: ['nix-command'] });
  await machine.writeGraph([{ name: 'lower' }, { name: 'upper', deps: ['lower'] }]);
  await writeFile(join(machine.work, 'flake.nix'), graphFlake());
  return machine;
}

/** Nix runs the command for the host `localhost` itself, without SSH. */
function overSsh(machine: Machine): string {
  return `ssh-ng://localhost?remote-store=${machine.folder}/root`;
}

for (const nix of everyNix()) {
  describe(`other stores and installables, nix ${nix.version}`, { concurrency: false }, () => {
    test('niche push takes installables, files and expressions, and builds none', async (t) => {
      const machine = await machineWith(t, nix);
      const flake = await machine.makeCache('flake');
      const unbuilt = await machine.niche(['push', '-u', flake.url, '-f', 'default.nix', 'upper']);
      assert.equal(unbuilt.status, 1);
      assert.match(unbuilt.stderr, /is not valid\n/);
      assert.match(
        unbuilt.stderr,
        /^hint: build it first: nix build --file default\.nix upper\n$/m,
      );

      await machine.output('nix-build', ['-A', 'upper']);
      const expression = 'import ./default.nix { }';
      for (const [name, args] of [
        ['flake', ['path:.#upper']],
        ['file', ['-f', 'default.nix', 'upper']],
        ['expression', ['--impure', '--expr', `(${expression}).upper`]],
        ['attribute', ['--impure', '--expr', expression, 'upper']],
      ] as const) {
        const cache = name === 'flake' ? flake : await machine.makeCache(name);
        await machine.nicheDoes(['push', '-u', cache.url, ...args]);
        assert.deepEqual(await cache.names(), ['lower', 'upper'], name);
      }
    });

    test('niche push reads the paths of another machine through ssh-ng', async (t) => {
      const machine = await machineWith(t, nix);
      if (skipUnlessChroot(t, machine)) return;
      const cache = await machine.makeCache();
      const upper = await machine.output('nix-build', ['-A', 'upper', '--no-out-link']);
      const here = { NIX_REMOTE: `${machine.folder}/here` };
      const args = ['push', '-u', cache.url, '--store', overSsh(machine), upper];
      await machine.nicheDoes(args, { env: here });
      assert.deepEqual(await cache.names(), ['lower', 'upper']);
      await machine.nicheDoes(['verify', '-u', cache.url]);
    });

    for (const [command, buildArgs] of [
      ['nix build', ['build', '-u', 'URL', '--', '-f', 'default.nix', 'upper', '--no-link']],
      ['nix-build', ['exec', '-u', 'URL', '--', 'nix-build', '-A', 'upper', '--no-out-link']],
    ] as const) {
      test(`${command} in the store of another machine is uploaded`, async (t) => {
        const machine = await machineWith(t, nix);
        if (skipUnlessChroot(t, machine)) return;
        const cache = await machine.makeCache();
        const args = buildArgs.map((arg) => (arg === 'URL' ? cache.url : arg));
        const built = await machine.nicheDoes([...args, '--store', overSsh(machine)]);
        assert.match(built.stderr, /warning: the store is on another machine: /);
        assert.deepEqual(await cache.names(), ['lower', 'upper']);
      });

      test(`${command} that evaluates in another store is uploaded`, async (t) => {
        const machine = await machineWith(t, nix);
        const cache = await machine.makeCache();
        const evalStore = join(machine.folder, 'evaluated');
        const args = buildArgs.map((arg) => (arg === 'URL' ? cache.url : arg));
        const built = await machine.nicheDoes([...args, '--eval-store', evalStore]);
        assert.deepEqual(await cache.names(), ['lower', 'upper']);
        assert.doesNotMatch(built.stderr, /niche: warning/);
        // Paths that were built before are found too.
        const again = await machine.makeCache('again');
        const repeated = buildArgs.map((arg) => (arg === 'URL' ? again.url : arg));
        await machine.nicheDoes([...repeated, '--eval-store', evalStore]);
        assert.deepEqual(await again.names(), ['lower', 'upper']);
      });
    }

    test('a command that niche does not know, in the store of another machine, has a warning', async (t) => {
      const machine = await machineWith(t, nix);
      if (skipUnlessChroot(t, machine)) return;
      const cache = await machine.makeCache();
      const ran = await machine.nicheDoes(['exec', '-u', cache.url, '--', 'true'], {
        env: { NIX_REMOTE: overSsh(machine) },
      });
      assert.match(ran.stderr, /finds only the paths of nix build and nix-build there$/m);
    });
  });
}
