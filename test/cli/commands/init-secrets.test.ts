import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';

import { parseSecretKey } from '../../../core/nix/keys.ts';
import { openProvisioner } from '../../../core/storage/open/open-provision.ts';
import { requireAzurite } from '../../support/servers/azurite.ts';
import { runCommand } from '../../support/lab/command.ts';
import type { CommandResult } from '../../support/lab/command.ts';
import { makeAgeKey, needSops, openSopsLab } from '../../support/lab/sops-lab.ts';

test(
  'init with recipients: two documents, each for its own recipients, and no key file',
  needSops(),
  async (t) => {
    const lab = await openSopsLab(t);
    const [client, publisher] = [await makeAgeKey(), await makeAgeKey()];
    const fingerprint = await lab.makePgpKey('client');
    const cache = join(lab.folder, 'cache');
    const credentials = { kind: 's3', accessKeyId: 'AKIA', secretAccessKey: 'hush' };
    const made = await runCommand(
      [
        ...['init', cache, '--name', 'acme', '--no-upstream', '--json'],
        ...['--age', client.recipient, '--pgp', fingerprint],
        ...['--signing-age', publisher.recipient, '--upload-credentials', '-'],
      ],
      { env: lab.env, input: JSON.stringify(credentials) },
    );
    assert.equal(made.status, 0, made.stderr);
    const { publicKey, clients, publishers } = JSON.parse(made.stdout) as Record<string, unknown>;
    assert.deepEqual(clients, [`age:${client.recipient}`, `pgp:${fingerprint}`]);
    assert.deepEqual(publishers, [`age:${publisher.recipient}`]);
    assert.equal(existsSync(join(lab.env['HOME'] ?? '', '.config')), false, 'no key in the home');

    const document = (name: string): string => readFileSync(join(cache, name), 'utf8');
    const url = `file://${cache}`;
    for (const env of [{ SOPS_AGE_KEY: client.secretKey }, {}]) {
      assert.deepEqual(await lab.sopsDecrypt(document('niche.client.json'), env), {
        version: 1,
        storage: url,
        staging: url,
        credentials,
      });
    }
    const asPublisher = { SOPS_AGE_KEY: publisher.secretKey };
    const signing = (await lab.sopsDecrypt(document('niche.signing.json'), asPublisher)) as {
      secretKeys: string[];
    };
    const [secretKey = ''] = signing.secretKeys;
    assert.equal(parseSecretKey(secretKey).name, 'acme-1');
    assert.ok(String(publicKey).startsWith('acme-1:'));
    // A client cannot read the signing key, even with its own gpg key.
    await assert.rejects(
      lab.sopsDecrypt(document('niche.signing.json'), { SOPS_AGE_KEY: client.secretKey }),
    );
    for (const output of [made.stdout, made.stderr]) {
      assert.doesNotMatch(output, /hush|AGE-SECRET/);
      assert.ok(!output.includes(secretKey.slice(7)));
    }

    // The publisher signs with it, and nobody else can.
    const worker = ['worker', url, '--once'];
    const published = await runCommand(worker, { env: { ...lab.env, ...asPublisher } });
    assert.equal(published.status, 0, published.stderr);
    const refused = await runCommand(worker, {
      env: { ...lab.env, SOPS_AGE_KEY: client.secretKey },
    });
    assert.equal(refused.status, 1);
    assert.match(refused.stderr, /no identity on this machine decrypts niche\.signing\.json/);
  },
);

test('init prints the rights that clients need if it cannot create their credentials', async () => {
  for (const [url, rights] of [
    ['s3://acme-private/some?region=eu-central-1', /s3:PutObject.*acme-private\/some\/staging\/\*/],
    [
      'gs://acme-private',
      /objectCreator on gs:\/\/acme-private, limited by a condition.* staging\//,
    ],
  ] as const) {
    const provisioner = await openProvisioner(url);
    assert.match(provisioner.uploadRights, rights);
    assert.match(provisioner.uploadRights, /receipts\//);
    assert.equal(await provisioner.createUploadCredentials(new Date()), null);
  }
});

test('init on Azure creates a SAS token for clients with the given lifetime, or none', async (t) => {
  const server = await requireAzurite(t);
  if (server === null) return;
  const lab = await openSopsLab(t);
  const [client, publisher] = [await makeAgeKey(), await makeAgeKey()];
  const env = { ...lab.env, AZURE_STORAGE_CONNECTION_STRING: server.connectionString() };
  const init = async (container: string, ...more: string[]): Promise<CommandResult> =>
    runCommand(
      [
        ...['init', server.url(container), '--create', '--name', 'acme', '--no-upstream'],
        ...['--age', client.recipient, '--signing-age', publisher.recipient, ...more],
      ],
      { env },
    );
  const made = await init('made', '--upload-days', '30');
  assert.equal(made.status, 0, made.stderr);
  const day = new Date(Date.now() + 30 * 86_400_000).toISOString().slice(0, 7);
  assert.match(made.stdout, new RegExp(`not overwrite or delete them.\nIt expires on ${day}`));
  assert.doesNotMatch(made.stdout, /sig=|No credentials for clients/);
  const shown = await runCommand(['config', 'show', '-u', server.url('made')], {
    env: { ...env, SOPS_AGE_KEY: client.secretKey },
  });
  const [, policy = ''] =
    /stored access policy\n(niche-clients-[0-9a-f]{8}) /.exec(made.stdout) ?? [];
  assert.match(shown.stdout, new RegExp(`"accessPolicy": "${policy}"`));
  assert.doesNotMatch(shown.stdout, /sig=/);
  const { signedIdentifiers } = await server.admin
    .getContainerClient('made-staging')
    .getAccessPolicy();
  assert.deepEqual(
    signedIdentifiers.map(({ id, accessPolicy }) => [id, accessPolicy.permissions]),
    [[policy, 'rcl']],
  );

  const none = await init('none', '--no-upload-credentials');
  assert.equal(none.status, 0, none.stderr);
  assert.match(none.stdout, /No credentials for clients given[^]*sp=rcl/);
  assert.match((await init('wrong', '--upload-days', '0')).stderr, /from 1 to 3650/);
});

test('init refuses a signing key that clients could read, unless allowed', async (t) => {
  const lab = await openSopsLab(t);
  const { recipient } = await makeAgeKey();
  const cache = join(lab.folder, 'cache');
  const args = [
    ...['init', cache, '--name', 'acme', '--no-upstream'],
    ...['--age', recipient, '--signing-age', recipient],
  ];
  const refused = await runCommand(args, { env: lab.env });
  assert.equal(refused.status, 1);
  assert.match(refused.stderr, /must not read the signing key/);
  assert.match(refused.stderr, /--unsafe-share-signing-key/);
  assert.equal(existsSync(cache), false, 'nothing was made');

  const made = await runCommand([...args, '--unsafe-share-signing-key'], { env: lab.env });
  assert.equal(made.status, 0, made.stderr);
});

test('init creates nothing when a recipient or the credentials are unusable', async (t) => {
  const lab = await openSopsLab(t);
  const { recipient, secretKey } = await makeAgeKey();
  const cache = join(lab.folder, 'cache');
  const bad = join(lab.folder, 'credentials.json');
  await writeFile(bad, '{"kind":"s3","accessKeyId":"AKIA","secretAccesKey":"hush"}');
  for (const [args, expected] of [
    [['--age', secretKey], /got a secret key/],
    [['--pgp', 'A'.repeat(40)], /has no public key for it/],
    [['--aws-kms', 'alias/niche'], /arn:aws:kms:/],
    [['--age', recipient, '--upload-credentials', bad], /secretAccessKey/],
    [['--age', recipient, '--upload-credentials', `${bad}.no`], /cannot read/],
  ] as const) {
    const init = ['init', cache, '--name', 'acme', '--no-upstream', ...args];
    const { status, stderr } = await runCommand(init, { env: lab.env });
    assert.equal(status, 1, stderr);
    assert.match(stderr, expected);
    assert.doesNotMatch(stderr, /hush|AGE-SECRET/);
    assert.deepEqual(await readdir(lab.folder), ['credentials.json', 'home']);
  }
});
