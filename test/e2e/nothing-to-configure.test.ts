import assert from 'node:assert/strict';
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { TestContext } from 'node:test';

import {
  ContainerSASPermissions,
  StorageSharedKeyCredential,
  generateBlobSASQueryParameters,
} from '@azure/storage-blob';

import { configVersion, parseConfig } from '../../core/cache/config.ts';
import { initCache } from '../../core/cache/init.ts';
import { readObject } from '../../core/cache/objects.ts';
import type { PrivateConfig } from '../../core/cache/secret-config.ts';
import { createSecrets, encryptSecret } from '../../core/cache/write-secret.ts';
import { formatPublicKey, formatSecretKey, generateSecretKey } from '../../core/nix/keys.ts';
import type { Recipient } from '../../core/secrets/recipient.ts';
import type { Bucket } from '../../core/storage/bucket.ts';
import { openBucket } from '../../core/storage/open.ts';
import { startAzurite, whyNoAzurite } from '../support/azurite.ts';
import { runNiche } from '../support/cli.ts';
import { createMachine } from '../support/e2e-machine.ts';
import { availableNix } from '../support/nix-lab.ts';
import { requireS3 } from '../support/s3-servers.ts';
import { makeAgeKey, openSopsLab } from '../support/sops-lab.ts';

/** Two roots on a real server, and who may do what there. */
interface Place {
  readonly storage: string;
  readonly private: string;
  readonly substituter: string;
  /** Only create and look at receipts. */
  readonly clients: NonNullable<PrivateConfig['credentials']>;
  /** The publisher's own, in its environment. */
  readonly publisherEnv: Record<string, string>;
  readonly open: (url: string) => Bucket;
  /** What must be seen nowhere. */
  readonly secrets: readonly string[];
}

async function onVersitygw(t: TestContext): Promise<Place | null> {
  const server = await requireS3(t, 'versitygw');
  if (!server) return null;
  const [publicBucket, privateBucket] = [await server.createBucket(), await server.createBucket()];
  await server.publish(publicBucket);
  const clients = await server.addUser('uploader');
  const arn = `arn:aws:s3:::${privateBucket}`;
  await server.setPolicy(privateBucket, [
    ...[
      [['s3:PutObject', 's3:AbortMultipartUpload'], `${arn}/staging/*`],
      [['s3:GetObject'], `${arn}/receipts/*`],
      [['s3:ListBucket'], arn],
    ].map(([Action, Resource]) => ({
      Effect: 'Allow',
      Principal: { AWS: [clients.accessKeyId] },
      Action,
      Resource,
    })),
  ]);
  return {
    storage: server.url(publicBucket),
    private: server.url(privateBucket),
    substituter: `${server.endpoint}/${publicBucket}`,
    clients,
    publisherEnv: { ...server.env },
    open: (url) => openBucket(url, { credentials: server.credentials }),
    secrets: [clients.secretAccessKey],
  };
}

async function onAzurite(t: TestContext): Promise<Place | null> {
  const why = whyNoAzurite();
  if (why !== null) {
    t.skip(why);
    return null;
  }
  const server = await startAzurite();
  t.after(() => server.stop());
  const publicContainer = await server.createContainer('blob');
  const privateContainer = await server.createContainer();
  const key = server.credentials.accountKey ?? '';
  const sas = generateBlobSASQueryParameters(
    {
      containerName: privateContainer,
      permissions: ContainerSASPermissions.parse('rcl'),
      expiresOn: new Date(Date.now() + 3_600_000),
    },
    new StorageSharedKeyCredential(server.account, key),
  ).toString();
  return {
    storage: server.url(publicContainer),
    private: server.url(privateContainer),
    substituter: `${server.origin}/${server.account}/${publicContainer}`,
    clients: { kind: 'azure', sas },
    publisherEnv: { AZURE_STORAGE_CONNECTION_STRING: server.connectionString() },
    open: (url) => openBucket(url, { credentials: server.credentials }),
    secrets: [/sig=([^&]+)/.exec(sas)?.[1] ?? '', key],
  };
}

for (const [name, open] of [
  ['versitygw', onVersitygw],
  ['Azurite', onAzurite],
] as const) {
  test(
    `on ${name}: an age key, or a GPG key, is all that a machine needs`,
    { timeout: 600_000 },
    async (t) => {
      const nix = availableNix().at(-1);
      if (!nix) {
        t.skip('no Nix under the tools folder: run `npm run setup:test`');
        return;
      }
      const place = await open(t);
      if (!place) return;
      const lab = await openSopsLab(t);
      const machine = await createMachine(t, { nix });
      const [age, publisher] = [await makeAgeKey(), await makeAgeKey()];
      const fingerprint = await lab.makePgpKey('ci');
      const secretKey = generateSecretKey('acme-1');
      const signingKey = formatSecretKey(secretKey);
      const config = parseConfig(
        JSON.stringify({
          version: configVersion,
          name: 'acme',
          storeDir: machine.storeDir,
          publicKeys: [formatPublicKey(secretKey.publicKey)],
          storage: place.storage,
          private: place.private,
          substituter: place.substituter,
        }),
        'the configuration',
      );
      const roots = { public: place.open(place.storage), private: place.open(place.private) };
      const version = 1 as const;
      const clients: Recipient[] = [
        { kind: 'age', recipient: age.recipient },
        { kind: 'pgp', fingerprint },
      ];
      await createSecrets(roots, {
        private: await encryptSecret(
          { version, storage: place.storage, private: place.private, credentials: place.clients },
          clients,
          lab.keyring(),
        ),
        signing: await encryptSecret(
          { version, secretKeys: [signingKey] },
          [{ kind: 'age', recipient: publisher.recipient }],
          lab.keyring(),
        ),
      });
      await initCache(roots.public, config);

      const said: string[] = [];
      const publish = async (): Promise<void> => {
        const worker = await runNiche(['worker', place.storage, '--once'], {
          env: { ...lab.env, ...place.publisherEnv, SOPS_AGE_KEY: publisher.secretKey },
        });
        said.push(worker.stdout, worker.stderr);
        assert.equal(worker.status, 0, worker.stderr);
      };
      const gnupg = join(lab.env['HOME'] ?? '', '.gnupg');
      const identities: [string, Record<string, string>][] = [
        ['age', { SOPS_AGE_KEY: age.secretKey, GNUPGHOME: join(lab.folder, 'none') }],
        ['gpg', { GNUPGHOME: gnupg }],
      ];
      for (const [which, identity] of identities) {
        await machine.writeGraph([{ name: 'lower' }, { name: 'upper', deps: ['lower'] }], which);
        const report = join(machine.folder, `report-${which}.jsonl`);
        // What the command sees of niche, and of its environment, before it builds.
        const script = `env > seen-${which}; tr '\\0' ' ' < /proc/$PPID/cmdline >> seen-${which}; exec nix-build -A upper`;
        const building = machine.niche(
          ['exec', '-u', place.substituter, '--report', report, '--', 'sh', '-c', script],
          { env: { ...identity, PATH: `${nix.bin}:${process.env['PATH'] ?? ''}` } },
        );
        let done = false;
        void building.finally(() => {
          done = true;
        });
        while (!done) await publish();
        const built = await building;
        said.push(built.stdout, built.stderr, readFileSync(report, 'utf8'));
        said.push(readFileSync(join(machine.work, `seen-${which}`), 'utf8'));
        assert.equal(built.status, 0, `${which}: ${built.stderr}`);
        const statuses = readFileSync(report, 'utf8')
          .trim()
          .split('\n')
          .map((line) => (JSON.parse(line) as { status?: string }).status)
          .filter((status) => status !== undefined);
        assert.deepEqual([...new Set(statuses)], ['published'], `${which}: ${built.stderr}`);
        assert.ok(statuses.length >= 2);
      }

      // Key material is nowhere: not in what was printed, nor in what was written.
      const secrets = [
        ...place.secrets,
        signingKey.slice(7),
        ...[age, publisher].map((key) => key.secretKey),
      ];
      for (const root of [roots.public, roots.private]) {
        for await (const { key } of root.list('')) {
          said.push(key, (await readObject(root, key, 2 ** 26))?.toString('latin1') ?? '');
        }
      }
      for (const file of filesOf(machine.folder)) said.push(readFileSync(file, 'latin1'));
      for (const text of said) {
        for (const secret of secrets) {
          assert.ok(secret.length > 8 && !text.includes(secret), text.slice(0, 300));
        }
      }
      // And of niche's own there is nothing in the home but its cache folder.
      const home = machine.env['HOME'] ?? '';
      const own = existsSync(home)
        ? filesOf(home).filter((file) => file.slice(home.length).includes('niche'))
        : [];
      assert.deepEqual(
        own.filter((file) => !/\/\.?cache\/niche\//.test(file)),
        [],
      );
    },
  );
}

/** Every file below `folder`, the store's apart, which only Nix writes. */
function filesOf(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !/\/(?:store|nix)\//.test(entry.parentPath))
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((file) => statSync(file).size < 2 ** 24);
}
