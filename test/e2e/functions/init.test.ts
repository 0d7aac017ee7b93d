import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { pathToFileURL } from 'node:url';
import { openBucket } from '../../../core/storage/open/open-bucket.ts';
import type { Bucket } from '../../../core/storage/bucket.ts';
import { blobCreatedEvent } from '../../functions/azure-events.ts';
import { finalizedEvent, pushBody } from '../../functions/google-events.ts';
import { startAzureAccount } from '../../support/servers/azure-account.ts';
import { startAzureHost } from '../../support/servers/azure-host.ts';
import { whyNoAzurite } from '../../support/servers/azurite.ts';
import { listKeys } from '../../support/assert/bytes.ts';
import { auditRecords } from '../../support/cache/kit.ts';
import { createMachine, skipUnlessChroot, type Machine } from '../../support/lab/e2e-machine.ts';
import { startFakeGcs, whyNoFakeGcs } from '../../support/servers/fake-gcs.ts';
import { bundleFunctions } from '../../support/servers/function-bundle.ts';
import { startFramework } from '../../support/servers/google-framework.ts';
import { startGoogleKms } from '../../support/servers/google-kms.ts';
import { googleTopics, startGoogleServices } from '../../support/servers/google-services.ts';
import { startKeyVault } from '../../support/servers/key-vault.ts';
import { requireNix } from '../../support/lab/nix-lab.ts';

interface Made {
  readonly storage: string;
  readonly staging: string;
  readonly private: string;
  readonly substituter: string;
  readonly publicKey: string;
}

type Env = Readonly<Record<string, string>>;

/** Runs `niche init`, then stages with `niche build`. @returns the cache and the built path */
async function initAndBuild(
  machine: Machine,
  url: string,
  signing: readonly string[],
  env: Env,
): Promise<{ made: Made; upper: string }> {
  const init = ['init', url, '--name', 'acme', '--no-upstream', '--create', '--json', ...signing];
  const made = JSON.parse((await machine.nicheDoes(init, { env })).stdout) as Made;
  await machine.writeGraph([{ name: 'lower' }, { name: 'upper', deps: ['lower'] }]);
  const build = ['build', '-u', url, '--no-publish', '--', '-f', '.', '--no-link'];
  const built = await machine.nicheDoes([...build, 'upper', '--print-out-paths'], { env });
  return { made, upper: built.stdout.trim() };
}

async function substitute(
  t: TestContext,
  machine: Machine,
  made: Made,
  path: string,
): Promise<void> {
  const reader = await createMachine(t, {
    nix: machine.nix,
    trustedPublicKeys: [made.publicKey],
    settings: { substituters: made.substituter, 'require-sigs': 'true' },
  });
  await reader.output('nix-store', ['--realise', path]);
  await reader.output('nix-store', ['--verify-path', path]);
}

const manifestsIn = async (root: Bucket): Promise<string[]> =>
  (await listKeys(root, 'staging/')).filter((key) => key.endsWith('.json'));

async function temporaryFolder(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'niche-init-functions-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

describe('from niche init to real Nix, published by the function', () => {
  test('on Google Cloud, signed by its KMS', { skip: whyNoFakeGcs() }, async (t) => {
    const nix = requireNix(t);
    if (nix === null) return;
    const machine = await createMachine(t, { nix });
    if (skipUnlessChroot(t, machine)) return;
    const folder = await temporaryFolder(t);
    const [gcs, kms] = [await startFakeGcs(), await startGoogleKms()];
    const services = await startGoogleServices(kms.token);
    t.after(() => Promise.all([gcs.stop(), kms.close(), services.stop()]));
    const version =
      'projects/acme/locations/europe-west1/keyRings/niche/cryptoKeys/signing/cryptoKeyVersions/1';
    kms.addSigningKey(version);

    const env = { ...services.env, NICHE_KMS_ENDPOINT: kms.endpoint };
    const signing = ['--signer', `gcp-kms:${version}`];
    const { made, upper } = await initAndBuild(machine, gcs.url('acme'), signing, env);
    assert.match(made.publicKey, /^acme-1:/);
    const [stagingRoot, privateRoot] = [openBucket(made.staging), openBucket(made.private)];
    const staged = await manifestsIn(stagingRoot);
    assert.ok(staged.length > 0);

    await bundleFunctions('google', folder);
    const publish = await startFramework(folder, 'publish', {
      NICHE_PUBLIC: made.storage,
      NICHE_STAGING: made.staging,
      NICHE_PRIVATE: made.private,
      NICHE_SIGNERS: `gcp-kms:${version}?name=acme-1`,
      NICHE_SWEEP_CALLER: 'niche-invoker@acme.iam.gserviceaccount.com',
      NICHE_TIME_LIMIT_SECONDS: '540',
      ...env,
    });
    t.after(() => publish.kill());
    for (const key of staged) {
      const event = finalizedEvent('acme-staging', key) as Record<string, unknown>;
      const type = { 'content-type': 'application/cloudevents+json' };
      assert.equal(await publish.post('/', event, type), 204, publish.lines.join('\n'));
    }
    for (let message = services.messages.shift(); message; message = services.messages.shift()) {
      assert.equal(await publish.post(`/${googleTopics.wake}`, pushBody(message)), 204);
    }
    assert.deepEqual(await manifestsIn(stagingRoot), []);
    const records = await auditRecords({ private: privateRoot });
    assert.ok(records.every(({ signers }) => signers[0]?.keyId === version));
    await machine.nicheDoes(['status', '-u', gcs.url('acme')], { env });
    await substitute(t, machine, made, upper);
  });

  test('on Azure, its key decrypted by Key Vault', { skip: whyNoAzurite() }, async (t) => {
    const nix = requireNix(t);
    if (nix === null) return;
    const machine = await createMachine(t, { nix });
    if (skipUnlessChroot(t, machine)) return;
    const folder = await temporaryFolder(t);
    const account = await startAzureAccount();
    const vault = await startKeyVault(folder, 'acme.vault.azure.net');
    t.after(() => Promise.all([account.stop(), vault.stop()]));
    const names = pathToFileURL(
      join(import.meta.dirname, '../../support/servers/vault-names-child.ts'),
    );
    const env = {
      AZURE_STORAGE_CONNECTION_STRING: account.connectionString,
      NODE_OPTIONS: `--import=${names.href}`,
      ...vault.identity,
    };
    const work = 'cache-private-work';
    for (const name of [work, `${work}-poison`]) await account.queues.createQueue(name);

    // Without a version, niche requests the newest.
    const signing = ['--signing-azure-kv', `${vault.url}/keys/${vault.keyName}`];
    const { made, upper } = await initAndBuild(machine, account.url('cache'), signing, env);
    const credentials = { kind: 'azure', connectionString: account.connectionString } as const;
    const root = openBucket(made.staging, { credentials });
    const staged = await manifestsIn(root);
    assert.ok(staged.length > 0);
    assert.ok(!vault.requests.some((request) => request.endsWith('/decrypt')));

    const host = await startAzureHost({
      app: await bundleFunctions('azure', folder),
      queues: account.queues,
      retrySeconds: 0,
      settings: {
        NICHE_ROLE: 'publisher',
        NICHE_PUBLIC: made.storage,
        NICHE_STAGING: made.staging,
        NICHE_PRIVATE: made.private,
        NICHE_SIGNERS: 'secret-key:acme-1',
        NICHE_VAULT: vault.url,
        NICHE_WORK_QUEUE: work,
        NICHE_WITHDRAWALS_QUEUE: 'cache-private-withdrawals',
        NICHE_SWEEP_SCHEDULE: '0 */15 * * * *',
        NICHE_TIME_LIMIT_SECONDS: '1800',
        NICHE_QUEUE: account.connectionString,
        ...env,
      },
    });
    t.after(() => host.stop());
    for (const key of staged) {
      const event = JSON.stringify(blobCreatedEvent(account.name, 'cache-staging', key));
      const queue = account.queues.getQueueClient(work);
      await queue.sendMessage(Buffer.from(event).toString('base64'));
    }
    for (let verdict = await host.dequeue('publish'); verdict !== null;) {
      assert.equal(verdict, 'done', host.logs.map(({ message }) => message).join('\n'));
      verdict = await host.dequeue('publish');
    }
    assert.deepEqual(await manifestsIn(root), []);
    assert.ok(vault.requests.some((request) => request.endsWith('/decrypt')));
    await substitute(t, machine, made, upper);
  });
});
