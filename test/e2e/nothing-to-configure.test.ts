import assert from 'node:assert/strict';
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import type { TestContext } from 'node:test';

import { readObject } from '../../core/cache/objects.ts';
import type { ClientConfig, SigningConfig } from '../../core/cache/secret-documents.ts';
import type { Bucket } from '../../core/storage/bucket.ts';
import { openBucket } from '../../core/storage/open/open-bucket.ts';
import { requireAzurite } from '../support/servers/azurite.ts';
import { runNiche } from '../support/lab/niche-process.ts';
import type { NicheRun } from '../support/lab/niche-process.ts';
import { createMachine } from '../support/lab/e2e-machine.ts';
import { requireNix } from '../support/lab/nix-lab.ts';
import { requireS3 } from '../support/servers/s3-servers.ts';
import { makeAgeKey, openSopsLab } from '../support/lab/sops-lab.ts';
import { placeSpies } from '../support/lab/spies.ts';

/** An empty storage server, and its users' permissions. */
interface Place {
  readonly url: string;
  /** The environment of the cache’s administrator. */
  readonly adminEnv: Readonly<Record<string, string>>;
  /** The secret value in `adminEnv`. */
  readonly adminSecret: string;
  /** The clients' credentials, if init cannot create them. */
  readonly uploadCredentials?: NonNullable<ClientConfig['credentials']>;
  /** Grants the clients' credentials the documented permissions. */
  readonly allowUploads: () => Promise<void>;
  readonly open: (url: string) => Bucket;
}

async function onVersitygw(t: TestContext): Promise<Place | null> {
  const server = await requireS3(t, 'versitygw');
  if (!server) return null;
  const clients = await server.addUser('uploader');
  const arn = 'arn:aws:s3:::acme-staging';
  const rights = [
    [['s3:PutObject', 's3:AbortMultipartUpload'], `${arn}/staging/*`],
    [['s3:GetObject'], `${arn}/receipts/*`],
    [['s3:ListBucket'], arn],
  ];
  return {
    url: server.url('acme'),
    adminEnv: server.env,
    adminSecret: server.credentials.secretAccessKey,
    uploadCredentials: clients,
    allowUploads: () =>
      server.setPolicy(
        'acme-staging',
        rights.map(([Action, Resource]) => ({
          Effect: 'Allow',
          Principal: { AWS: [clients.accessKeyId] },
          Action,
          Resource,
        })),
      ),
    open: (url) => openBucket(url, { credentials: server.credentials }),
  };
}

async function onAzurite(t: TestContext): Promise<Place | null> {
  const server = await requireAzurite(t);
  if (server === null) return null;
  return {
    url: server.url('acme'),
    adminEnv: { AZURE_STORAGE_CONNECTION_STRING: server.connectionString() },
    adminSecret: server.credentials.accountKey ?? '',
    allowUploads: () => Promise.resolve(),
    open: (url) => openBucket(url, { credentials: server.credentials }),
  };
}

for (const [name, open] of [
  ['versitygw', onVersitygw],
  ['Azurite', onAzurite],
] as const) {
  test(`on ${name}: a machine needs only an age key or a GPG key`, async (t) => {
    const nix = requireNix(t);
    if (nix === null) return;
    const place = await open(t);
    if (!place) return;
    const lab = await openSopsLab(t);
    const machine = await createMachine(t, { nix });
    const [age, publisher] = [await makeAgeKey(), await makeAgeKey()];
    const fingerprint = await lab.makePgpKey('ci');
    const hostPath = process.env['PATH'] ?? '';
    const nixPath = `${nix.bin}:${hostPath}`;
    const [adminSpies, clientSpies] = [
      await placeSpies(join(lab.folder, 'spies-admin'), nixPath),
      await placeSpies(join(lab.folder, 'spies-client'), nixPath),
    ];
    /** All captured text, by its source. */
    const seen: [where: string, text: string][] = [];
    const heard = (ran: NicheRun): NicheRun => {
      seen.push(['printed', ran.stdout], ['printed', ran.stderr]);
      return ran;
    };
    const admin = async (args: readonly string[], env: object = {}): Promise<NicheRun> => {
      const ran = await runNiche(args, {
        env: { ...lab.env, ...place.adminEnv, ...adminSpies.env, ...env },
      });
      assert.equal(ran.status, 0, `niche ${args.join(' ')}: ${ran.stderr}`);
      return ran;
    };

    // The administrator creates the cache with commands only.
    const init = [
      ...['init', place.url, '--create', '--name', 'acme', '--no-upstream', '--json'],
      ...['--store-dir', machine.storeDir, '--age', age.recipient, '--pgp', fingerprint],
      ...['--signing-age', publisher.recipient],
    ];
    const withCredentials = place.uploadCredentials && {
      NICHE_UPLOAD_CREDENTIALS: JSON.stringify(place.uploadCredentials),
    };
    if (withCredentials) {
      // A bucket must exist before its policy can grant anything.
      const early = heard(
        await runNiche(init, {
          env: { ...lab.env, ...place.adminEnv, ...adminSpies.env, ...withCredentials },
        }),
      );
      assert.equal(early.status, 1, early.stderr);
      assert.match(
        early.stderr,
        /credentials for clients cannot create objects in s3:\/\/acme-staging/,
      );
      assert.match(early.stderr, /run the same command again/);
    }
    await place.allowUploads();
    const made = heard(await admin(init, withCredentials));
    const cache = JSON.parse(made.stdout) as Record<string, string>;
    const { storage = '', substituter = '', publicKey = '' } = cache;
    const isMadeByInit = place.uploadCredentials === undefined;
    assert.equal(cache['uploadCredentialsExpire'] !== undefined, isMadeByInit);

    const asClient = { SOPS_AGE_KEY: age.secretKey };
    const asPublisher = { SOPS_AGE_KEY: publisher.secretKey };
    const reveal = async <T>(env: object, ...more: string[]): Promise<T> => {
      const show = ['config', 'show', '--reveal', '--json', '-u', substituter, ...more];
      return (JSON.parse((await admin(show, env)).stdout) as { value: T }).value;
    };
    const { credentials } = await reveal<ClientConfig>(asClient);
    const { secretKeys } = await reveal<SigningConfig>(asPublisher, '--signing');
    const signature = credentials?.kind === 'azure' ? (credentials.sas ?? '') : '';
    const { sig = '', si } = Object.fromEntries(new URLSearchParams(signature));
    if (isMadeByInit) assert.match(si ?? '', /^niche-clients-/);

    // Clients have only an identity: no variable, no file, no key of the cache.
    const gnupg = join(lab.env['HOME'] ?? '', '.gnupg');
    const planted = 'planted-in-the-environment';
    const identities: [string, Record<string, string>][] = [
      ['age', { ...asClient, GNUPGHOME: join(lab.folder, 'none') }],
      ['gpg', { GNUPGHOME: gnupg }],
    ];
    for (const [which, identity] of identities) {
      await machine.writeGraph([{ name: 'lower' }, { name: 'upper', deps: ['lower'] }], which);
      const report = join(machine.folder, `report-${which}.jsonl`);
      const building = machine.niche(
        [
          ...['build', '-u', substituter, '--report', report],
          ...['--', '-f', '.', 'upper', '--no-link'],
        ],
        { env: { ...identity, ...clientSpies.env, NICHE_TEST_PLANTED: planted } },
      );
      let done = false;
      void building.finally(() => {
        done = true;
      });
      while (!done) heard(await admin(['worker', storage, '--once'], asPublisher));
      const built = heard(await building);
      assert.equal(built.status, 0, `${which}: ${built.stderr}`);
      const lines = readFileSync(report, 'utf8').trim().split('\n');
      const statuses = lines
        .map((line) => (JSON.parse(line) as { status?: string }).status)
        .filter((status) => status !== undefined);
      assert.deepEqual([...new Set(statuses)], ['published'], `${which}: ${built.stderr}`);
      assert.ok(statuses.length >= 2);
    }
    assert.deepEqual(readdirSync(machine.work), ['default.nix']);
    heard(await admin(['config', 'edit', '-u', substituter], asClient));

    // All output, files, and environments of child processes.
    await writeFile(join(machine.folder, 'planted'), 'planted-in-a-file');
    for (const url of [storage, cache['staging'] ?? '', cache['private'] ?? '']) {
      const root = place.open(url);
      for await (const { key } of root.list('')) {
        const text = (await readObject(root, key, 2 ** 26))?.toString('latin1') ?? '';
        seen.push(['stored', `${key}\n${text}`]);
      }
    }
    for (const file of filesOf(machine.folder)) {
      seen.push(['written', readFileSync(file, 'latin1')]);
    }
    seen.push(...clientSpies.seen());
    const where = (needle: string, list = seen): string[] => [
      ...new Set(list.filter(([, text]) => text.includes(needle)).map(([at]) => at)),
    ];

    // Finds known values in each source, to prove that the search works.
    assert.deepEqual(where('planted-in-a-file'), ['written']);
    assert.deepEqual(where(planted).sort(), ['gpg', 'nix', 'nix-instantiate', 'nix-store']);
    assert.ok(where('--decrypt').includes('gpg'), 'arguments too');
    const inPublic = where(publicKey);
    assert.ok(inPublic.includes('stored') && inPublic.includes('printed'), inPublic.join(' '));

    const secrets = [
      ...[age, publisher].map((key) => key.secretKey),
      ...secretKeys.map((key) => key.slice(key.indexOf(':') + 1)),
      ...(credentials?.kind === 's3' ? [credentials.secretAccessKey] : []),
      ...(isMadeByInit ? [sig, encodeURIComponent(sig)] : []),
    ];
    assert.equal(secrets.length, isMadeByInit ? 5 : 4);
    for (const secret of [...secrets, place.adminSecret]) {
      assert.ok(secret.length > 8);
      assert.deepEqual(where(secret), []);
    }
    // Nix inherits the administrator's own variables, but not the secrets that only niche needs.
    const ofAdmin = adminSpies.seen();
    assert.ok(where(place.adminSecret, ofAdmin).includes('nix'));
    assert.ok(where('niche.client.json', ofAdmin).includes('editor'));
    for (const secret of secrets) assert.deepEqual(where(secret, ofAdmin), []);

    // The home directory contains no niche files outside its cache directory.
    const home = machine.env['HOME'] ?? '';
    const own = existsSync(home)
      ? filesOf(home).filter((file) => file.slice(home.length).includes('niche'))
      : [];
    assert.deepEqual(
      own.filter((file) => !/\/\.?cache\/niche\//.test(file)),
      [],
    );
  });
}

/** Returns every file below `folder`, except the store, which only Nix writes. */
function filesOf(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !/\/(?:store|nix)\//.test(entry.parentPath))
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((file) => statSync(file).size < 2 ** 24);
}
