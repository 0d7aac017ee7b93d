import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';

import { requireAzurite } from '../support/servers/azurite.ts';
import { createMachine, skipUnlessChroot } from '../support/lab/e2e-machine.ts';
import { requireFakeGcs } from '../support/servers/fake-gcs.ts';
import { requireNix } from '../support/lab/nix-lab.ts';
import { readerOf, type Made } from './made.ts';

/** A storage server of a cloud, and the environment of its user. */
interface Cloud {
  readonly url: string;
  /** The public HTTP address of `url`. */
  readonly publicUrl: string;
  readonly env: Readonly<Record<string, string>>;
}

const clouds = {
  async 'Azure on Azurite'(t: TestContext): Promise<Cloud | null> {
    const server = await requireAzurite(t);
    return (
      server && {
        url: server.url('acme'),
        publicUrl: `${server.origin}/${server.account}/acme`,
        env: { AZURE_STORAGE_CONNECTION_STRING: server.connectionString() },
      }
    );
  },
  async 'Google on fake-gcs-server'(t: TestContext): Promise<Cloud | null> {
    const server = await requireFakeGcs(t);
    return server && { url: server.url('acme'), publicUrl: server.publicUrl('acme'), env: {} };
  },
};

for (const [name, start] of Object.entries(clouds)) {
  describe(`a cache in ${name}`, { concurrency: false }, () => {
    test('is created, filled by a build, published by worker and by push, and substituted from', async (t) => {
      const nix = requireNix(t);
      const cloud = await start(t);
      if (nix === null || cloud === null) return;
      const { url, publicUrl, env } = cloud;
      const machine = await createMachine(t, { nix });
      if (skipUnlessChroot(t, machine)) return;
      const init = ['init', url, '--name', 'acme', '--no-upstream', '--json'];
      const early = await machine.niche(init, { env });
      assert.match(early.stderr, /create it with: niche init --create/);
      const created = await machine.nicheDoes([...init, '--create'], { env });
      const made = JSON.parse(created.stdout) as Made;
      assert.equal(made.substituter, publicUrl);
      assert.equal(made.staging, url.replace(/\bacme\b/, 'acme-staging'));
      assert.equal(made.private, url.replace(/\bacme\b/, 'acme-private'));
      assert.match((await machine.niche(init, { env })).stderr, /there is a cache/);

      // One process stages, another publishes.
      await machine.writeGraph([{ name: 'lower' }, { name: 'upper', deps: ['lower'] }]);
      const build = ['build', '-u', url, '--no-publish', '--', '-f', '.', '--no-link'];
      const built = await machine.nicheDoes([...build, 'upper', '--print-out-paths'], { env });
      const upper = built.stdout.trim();
      const worked = await machine.nicheDoes(['worker', url, '--once'], { env });
      assert.match(worked.stderr, /2 paths published, 0 rejected/);
      // One process stages and publishes.
      await machine.writeGraph([{ name: 'other' }], 'salt');
      const other = await machine.output('nix-build', ['--no-out-link', '-A', 'other']);
      const pushed = await machine.nicheDoes(['push', '-u', url, '--publish', 'local', other], {
        env,
      });
      assert.match(pushed.stderr, /1 path published/);
      await machine.nicheDoes(['verify', '-u', url], { env });
      // Reads the public address without credentials.
      const shown = await machine.nicheDoes(['show', '-u', `${publicUrl}#${made.publicKey}`]);
      assert.match(shown.stdout, /acme/);

      const copying = await readerOf(t, machine, made);
      await copying.output('nix', ['copy', '--from', made.substituter, upper, other]);
      await copying.output('nix-store', ['--verify', '--check-contents']);
      const substituting = await readerOf(t, machine, made);
      await substituting.output('nix-store', ['--realise', upper]);
      await substituting.output('nix-store', ['--verify-path', upper]);
      const stranger = await createMachine(t, {
        nix,
        settings: { substituters: made.substituter, 'require-sigs': 'true' },
      });
      assert.notEqual((await stranger.run('nix-store', ['--realise', upper])).status, 0);
    });
  });
}
