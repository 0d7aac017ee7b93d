import assert from 'node:assert/strict';
import { test } from 'node:test';

import { isNicheError } from '../../../core/errors.ts';
import { openGoogleKms } from '../../../core/kms/google.ts';
import { KmsError } from '../../../core/kms/kms.ts';
import { azureDataKeys } from '../../../core/secrets/azure-kv.ts';
import { readDocumentMetadata } from '../../../core/secrets/document.ts';
import { googleDataKeys } from '../../../core/secrets/gcp-kms.ts';
import { kmsIdentity, wrapForKms } from '../../../core/secrets/kms.ts';
import type { DataKeyKms } from '../../../core/secrets/kms.ts';
import { parseRecipient } from '../../../core/secrets/parse-recipient.ts';
import type { UsableKind } from '../../../core/secrets/parse-recipient.ts';
import { describeRecipient, isSameRecipient } from '../../../core/secrets/recipient.ts';
import { createRetrier } from '../../../core/util/retry.ts';
import { startGoogleKms } from '../../support/servers/google-kms.ts';
import { corpus, corpusMissing } from '../../support/assert/corpus.ts';
import { makeAgeKey } from '../../support/lab/sops-lab.ts';

const arn = 'arn:aws:kms:eu-central-1:123456789012:key/0b4f0b7e-1f53-4b5e-8f3a-0c8ad3fd7c7d';
const gcp = 'projects/p/locations/global/keyRings/r/cryptoKeys/k';
const azure = 'https://acme.vault.azure.net/keys/cache/0123456789abcdef0123456789abcdef';

test('parses recipients of the command line', async () => {
  const { recipient } = await makeAgeKey();
  const role = 'arn:aws:iam::123456789012:role/niche';
  const good: [UsableKind, string, string][] = [
    ['age', recipient, `age:${recipient}`],
    [
      'pgp',
      '7fb8 9715 aada 920d 65d2  5e63 f9ba 9deb d03f 57c0',
      'pgp:7FB89715AADA920D65D25E63F9BA9DEBD03F57C0',
    ],
    ['aws-kms', arn, `aws-kms:${arn}`],
    ['aws-kms', `${arn}+${role}`, `aws-kms:${arn}+${role}`],
    ['gcp-kms', gcp, `gcp-kms:${gcp}`],
    ['azure-kv', azure, `azure-kv:${azure}`],
  ];
  for (const [kind, text, described] of good) {
    const parsed = await parseRecipient(kind, text, { 'niche-cache': 'acme' });
    assert.equal(describeRecipient(parsed), described);
    assert.ok(isSameRecipient(parsed, await parseRecipient(kind, text)));
  }
});

test('refuses malformed recipients without showing a secret key', async () => {
  const { secretKey } = await makeAgeKey();
  const bad: [UsableKind, string][] = [
    ['age', ''],
    ['age', secretKey],
    ['age', 'age1short'],
    ['age', 'ssh-ed25519 AAAA'],
    ['age', 'ssh-dss AAAAB3NzaC1kc3M='],
    ['pgp', 'alice@example.org'],
    ['pgp', 'D03F57C0'],
    ['aws-kms', 'arn:aws:s3:::bucket'],
    ['aws-kms', `${arn}+arn:aws:iam::1:user/x`],
    ['gcp-kms', 'projects/p'],
    ['gcp-kms', `${gcp}:setIamPolicy?x=`],
    ['gcp-kms', gcp.replace(/\/keyRings\/[^/]+/, '/keyRings/..')],
    ['azure-kv', 'https://acme.vault.azure.net'],
  ];
  for (const [kind, text] of bad) {
    await assert.rejects(parseRecipient(kind, text), (error) => {
      assert.ok(isNicheError(error, 'unusable-recipient'), `${kind} ${text}`);
      assert.ok(!error.message.includes(secretKey));
      return true;
    });
  }
});

const dataKey = new Uint8Array(32).fill(9);

test('a data key in Google Cloud KMS', async (t) => {
  const server = await startGoogleKms();
  t.after(() => server.close());
  const open = (token: Promise<string>) =>
    googleDataKeys(
      openGoogleKms({
        endpoint: server.endpoint,
        retrier: createRetrier({ firstBackoffMs: 1, maxAttempts: 2 }),
        auth: {
          headers: async () => ({ authorization: `Bearer ${await token}` }),
          projectId: () => Promise.resolve(undefined),
        },
      }),
    );
  const kms = open(Promise.resolve(server.token));
  const recipient = { kind: 'gcp-kms', resourceId: gcp } as const;
  const wrapped = await wrapForKms(kms, recipient, dataKey);
  assert.match(wrapped, /^[A-Za-z0-9+/]+=*$/, 'the form that sops uses');
  const identity = kmsIdentity(kms);
  assert.deepEqual(bytes(await identity.unwrap({ recipient, wrapped })), dataKey);
  assert.deepEqual(identity.tried(), ['Google Cloud KMS']);
  await rejects(identity.unwrap({ recipient, wrapped: '?' }), 'identity-failed');
  await rejects(identity.unwrap({ recipient, wrapped: 'AAAA' }), 'identity-failed');

  server.fault = () => ({ replace: { ciphertextCrc32c: '1', plaintextCrc32c: '1' } });
  await rejects(wrapForKms(kms, recipient, dataKey), 'unusable-recipient');
  await rejects(identity.unwrap({ recipient, wrapped }), 'identity-failed');
  server.fault = () => ({ replace: { verifiedPlaintextCrc32c: false } });
  await rejects(wrapForKms(kms, recipient, dataKey), 'unusable-recipient');
  server.fault = null;

  const denied = open(Promise.resolve('stolen'));
  await rejects(kmsIdentity(denied).unwrap({ recipient, wrapped }), 'identity-failed');
  await rejects(wrapForKms(denied, recipient, dataKey), 'unusable-recipient');
  const none = Promise.reject(new Error('Could not load the default credentials. …'));
  none.catch(() => undefined);
  const nobody = kmsIdentity(open(none));
  assert.equal(await nobody.unwrap({ recipient, wrapped }), null);
  assert.match(nobody.tried().join(), /no credentials/);
});

test('a data key in Azure Key Vault', async () => {
  const recipient = await parseRecipient('azure-kv', azure);
  assert.ok(recipient.kind === 'azure-kv');
  const vault = (fail?: Error): DataKeyKms<'azure-kv'> =>
    azureDataKeys({
      encrypt: (_key, plaintext) => (fail ? Promise.reject(fail) : Promise.resolve(plaintext)),
      decrypt: (_key, ciphertext) => (fail ? Promise.reject(fail) : Promise.resolve(ciphertext)),
      newestVersion: () => assert.fail('the version is known'),
    });
  const wrapped = await wrapForKms(vault(), recipient, dataKey);
  assert.equal(wrapped, Buffer.from(dataKey).toString('base64url'), 'the form that sops uses');
  assert.deepEqual(bytes(await kmsIdentity(vault()).unwrap({ recipient, wrapped })), dataKey);

  const without = vault(new KmsError('no-credentials', '…'));
  assert.equal(await kmsIdentity(without).unwrap({ recipient, wrapped }), null);
  const denied = vault(new KmsError('denied', '403 Forbidden'));
  await rejects(kmsIdentity(denied).unwrap({ recipient, wrapped }), 'identity-failed');
  await rejects(wrapForKms(denied, recipient, dataKey), 'unusable-recipient');
});

function bytes(data: Uint8Array | null): Uint8Array {
  return Uint8Array.from(data ?? []);
}

test(
  'reads all kinds of recipients of a real document',
  corpus() ? {} : { skip: corpusMissing },
  () => {
    const text = corpus()!.read('sops/sops/stores_ini_test_resources_example.json').toString();
    const { groups } = readDocumentMetadata(text, 'it');
    const kinds = groups.flat().map(({ recipient }) => recipient.kind);
    assert.deepEqual([...new Set(kinds)].sort(), ['aws-kms', 'pgp']);
  },
);

async function rejects(
  work: Promise<unknown>,
  code: 'identity-failed' | 'unusable-recipient',
): Promise<void> {
  await assert.rejects(work, (error) => isNicheError(error, code));
}
