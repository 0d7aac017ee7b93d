import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';

import { requireAzurite } from '../support/servers/azurite.ts';
import { runNiche, startNiche } from '../support/lab/niche-process.ts';
import { createMachine, skipUnlessChroot } from '../support/lab/e2e-machine.ts';
import { requireFakeGcs } from '../support/servers/fake-gcs.ts';
import { requireNix } from '../support/lab/nix-lab.ts';
import { requireS3 } from '../support/servers/s3-servers.ts';
import { temporaryFolder } from '../support/cache/small-cache.ts';
import { readerOf, type Made } from './made.ts';

type Env = Readonly<Record<string, string>>;

/** A storage server of a cloud with the private buckets `acme`, `acme-staging` and `acme-private`. */
interface Cloud {
  readonly url: string;
  /** The URL that would be readable if the bucket were public. */
  readonly publicUrl: string;
  /** The credentials of this machine. */
  readonly env: Env;
  /** The response status without credentials. */
  readonly denial: number;
}

const clouds: Readonly<Record<string, (t: TestContext) => Promise<Cloud | null>>> = {
  async 'a bucket of S3'(t) {
    const server = await requireS3(t);
    if (server === null) return null;
    await server.createBucket('acme');
    await server.createBucket('acme-staging');
    await server.createBucket('acme-private');
    const publicUrl = `${server.endpoint}/acme`;
    return { url: server.url('acme'), publicUrl, env: server.env, denial: 403 };
  },
  async 'a container of Azure'(t) {
    const server = await requireAzurite(t);
    if (server === null) return null;
    await server.admin.createContainer('acme');
    await server.admin.createContainer('acme-staging');
    await server.admin.createContainer('acme-private');
    return {
      url: server.url('acme'),
      publicUrl: `${server.origin}/${server.account}/acme`,
      env: { AZURE_STORAGE_CONNECTION_STRING: server.connectionString() },
      denial: 403,
    };
  },
  // fake-gcs-server denies nothing. This tests only that niche can serve from Google.
  async 'a bucket of Google'(t) {
    const server = await requireFakeGcs(t);
    if (server === null) return null;
    await server.createBucket('acme');
    await server.createBucket('acme-staging');
    await server.createBucket('acme-private');
    return { url: server.url('acme'), publicUrl: server.publicUrl('acme'), env: {}, denial: 200 };
  },
};

describe('real Nix reads through niche serve from', { concurrency: false }, () => {
  for (const [name, start] of Object.entries(clouds)) {
    test(`${name}, with this machine’s credentials`, async (t) => {
      const nix = requireNix(t);
      const cloud = await start(t);
      if (nix === null || cloud === null) return;
      const { url, publicUrl, env, denial } = cloud;
      const machine = await createMachine(t, { nix });
      if (skipUnlessChroot(t, machine)) return;
      const init = ['init', url, '--name', 'acme', '--no-upstream', '--json'];
      const made = JSON.parse((await machine.nicheDoes(init, { env })).stdout) as Made;
      await machine.writeGraph([
        { name: 'lower', bytes: 3_000_000 },
        { name: 'upper', deps: ['lower'] },
      ]);
      const upper = await machine.output('nix-build', ['--no-out-link', '-A', 'upper']);
      await machine.nicheDoes(['push', '-u', url, '--publish', 'local', upper], { env });
      assert.equal((await fetch(`${publicUrl}/niche.json`)).status, denial);

      const home = await temporaryFolder(t);
      const served = await startNiche(['serve', '-u', url, '--port', '0', '--log'], {
        env: { ...env, HOME: home },
      });
      t.after(() => served.process.kill('SIGKILL'));
      const at = { publicKey: made.publicKey, substituter: served.firstLine };
      const copier = await readerOf(t, machine, at);
      await copier.output('nix', ['copy', '--from', at.substituter, upper]);
      await copier.output('nix', ['store', 'verify', '-r', upper]);
      await copier.output('nix-store', ['--verify', '--check-contents']);
      const substituting = await readerOf(t, machine, at);
      await substituting.output('nix-store', ['--realise', upper]);
      const stranger = await createMachine(t, { nix, settings: { 'require-sigs': 'true' } });
      const refused = await stranger.run('nix', ['copy', '--from', at.substituter, upper]);
      assert.notEqual(refused.status, 0);
      assert.match(refused.stderr, /signature/);
      const { status, stderr } = await served.stop();
      assert.equal(status, 0);
      assert.doesNotMatch(stderr, /" 5[0-9][0-9]/);

      if (denial === 200) return;
      // The public address of the bucket results in a hint with the storage URL.
      const hinted = await runNiche(['serve', '-u', publicUrl, '--port', '0'], { env });
      assert.equal(hinted.status, 1);
      const [, own = ''] =
        /^hint: .* this machine’s credentials, run niche serve '(.*)'$/m.exec(hinted.stderr) ?? [];
      assert.equal(own.replace(/:.*/, ''), url.replace(/:.*/, ''), hinted.stderr);
      const again = await startNiche(['serve', '-u', own, '--port', '0'], { env });
      const narInfo = `${upper.slice('/nix/store/'.length).slice(0, 32)}.narinfo`;
      assert.equal((await fetch(`${again.firstLine}/${narInfo}`)).status, 200);
      assert.equal((await again.stop()).status, 0);
      // niche serve does not start without credentials.
      const without = await runNiche(['serve', '-u', url, '--port', '0'], {
        env: { HOME: home, AWS_EC2_METADATA_DISABLED: 'true' },
      });
      assert.equal(without.status, 1);
      assert.equal(without.stdout, '');
      t.diagnostic(hinted.stderr);
      t.diagnostic(without.stderr);
    });
  }
});
