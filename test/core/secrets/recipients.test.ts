import assert from 'node:assert/strict';
import { test } from 'node:test';

import { isNicheError } from '../../../core/errors.ts';
import { azureKvIdentity, wrapForAzureKv } from '../../../core/secrets/azure-kv.ts';
import { readDocumentMetadata } from '../../../core/secrets/document.ts';
import { gcpKmsIdentity, wrapForGcpKms } from '../../../core/secrets/gcp-kms.ts';
import type { GcpKmsClient } from '../../../core/secrets/gcp-kms.ts';
import { parseRecipient } from '../../../core/secrets/parse-recipient.ts';
import type { UsableKind } from '../../../core/secrets/parse-recipient.ts';
import { describeRecipient, isSameRecipient } from '../../../core/secrets/recipient.ts';
import { corpus, corpusMissing } from '../../support/assert/corpus.ts';
import { makeAgeKey } from '../../support/lab/sops-lab.ts';

const arn = 'arn:aws:kms:eu-central-1:123456789012:key/0b4f0b7e-1f53-4b5e-8f3a-0c8ad3fd7c7d';
const gcp = 'projects/p/locations/global/keyRings/r/cryptoKeys/k';
const azure = 'https://acme.vault.azure.net/keys/cache/0123456789abcdef0123456789abcdef';

test('recipients as they are given on a command line', async () => {
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

test('what is no recipient is refused, and a secret key is not shown', async () => {
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
const flip = (bytes: Uint8Array): Uint8Array => bytes.map((byte) => byte ^ 0xff);

test('Google Cloud KMS, through a client that was handed in', async () => {
  const client = (answer: object): GcpKmsClient => ({
    close: () => Promise.resolve(),
    encrypt: ({ plaintext }) => Promise.resolve([{ ciphertext: flip(plaintext) }]),
    decrypt: ({ ciphertext }) => Promise.resolve([{ plaintext: flip(ciphertext) }]),
    ...answer,
  });
  const clients =
    (answer = {}) =>
    () =>
      Promise.resolve(client(answer));
  const recipient = { kind: 'gcp-kms', resourceId: gcp } as const;
  const wrapped = await wrapForGcpKms(clients(), recipient, dataKey);
  assert.equal(wrapped, Buffer.from(flip(dataKey)).toString('base64'), 'in the form that sops has');
  assert.deepEqual(await gcpKmsIdentity(clients()).unwrap({ recipient, wrapped }), dataKey);

  const failing = (message: string) =>
    clients({
      encrypt: () => Promise.reject(new Error(message)),
      decrypt: () => Promise.reject(new Error(message)),
    });
  const nobody = gcpKmsIdentity(failing('Could not load the default credentials. …'));
  assert.equal(await nobody.unwrap({ recipient, wrapped }), null);
  assert.match(nobody.tried().join(), /no credentials/);
  const denied = failing('7 PERMISSION_DENIED: …');
  await rejects(gcpKmsIdentity(denied).unwrap({ recipient, wrapped }), 'identity-failed');
  await rejects(wrapForGcpKms(denied, recipient, dataKey), 'unusable-recipient');
  await rejects(gcpKmsIdentity(clients()).unwrap({ recipient, wrapped: '?' }), 'identity-failed');
});

test('Azure Key Vault, through a client that was handed in', async () => {
  const answer = (result: Uint8Array) => Promise.resolve({ result, algorithm: 'RSA-OAEP-256' });
  const clients =
    (more = {}) =>
    () =>
      Promise.resolve({
        encrypt: ({ plaintext }: { plaintext: Uint8Array }) => answer(flip(plaintext)),
        decrypt: ({ ciphertext }: { ciphertext: Uint8Array }) => answer(flip(ciphertext)),
        ...more,
      } as never);
  const recipient = await parseRecipient('azure-kv', azure);
  assert.ok(recipient.kind === 'azure-kv');
  const wrapped = await wrapForAzureKv(clients(), recipient, dataKey);
  assert.equal(wrapped, Buffer.from(flip(dataKey)).toString('base64url'));
  const unwrapped = await azureKvIdentity(clients()).unwrap({ recipient, wrapped });
  assert.deepEqual(Uint8Array.from(unwrapped ?? []), dataKey);

  const failing = (error: Error) =>
    clients({ encrypt: () => Promise.reject(error), decrypt: () => Promise.reject(error) });
  const without = Object.assign(new Error('…'), { name: 'CredentialUnavailableError' });
  assert.equal(await azureKvIdentity(failing(without)).unwrap({ recipient, wrapped }), null);
  const denied = failing(new Error('403 Forbidden'));
  await rejects(azureKvIdentity(denied).unwrap({ recipient, wrapped }), 'identity-failed');
  await rejects(wrapForAzureKv(denied, recipient, dataKey), 'unusable-recipient');
});

test(
  'all kinds of recipients that a real document has',
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
