import assert from 'node:assert/strict';
import { test } from 'node:test';

import {
  CreateKeyCommand,
  DisableKeyCommand,
  EnableKeyCommand,
  KMSClient,
} from '@aws-sdk/client-kms';
import type { KMSClientConfig } from '@aws-sdk/client-kms';

import { isNicheError } from '../../../core/errors.ts';
import type { NicheErrorCode } from '../../../core/errors.ts';
import { ageIdentity } from '../../../core/secrets/age.ts';
import { openAwsKms } from '../../../core/kms/aws.ts';
import { decryptDocument, encryptDocument } from '../../../core/secrets/document.ts';
import { fromPlain, toPlain } from '../../../core/secrets/json-tree.ts';
import type { JsonMap, JsonValue } from '../../../core/secrets/json-tree.ts';
import { createKeyring } from '../../../core/secrets/keyring.ts';
import type { Keyring } from '../../../core/secrets/recipient.ts';
import { requireMinistack } from '../../support/servers/ministack.ts';
import { needSops, openSopsLab } from '../../support/lab/sops-lab.ts';

const plain = { secret: 'for a key in AWS KMS', count: 2 };
const tree = fromPlain(plain) as JsonMap;
const now = new Date('2026-03-04T05:06:07Z');

test('AWS KMS, both ways with the real sops; denied and wrong use', needSops(), async (t) => {
  const aws = await requireMinistack(t);
  if (!aws) return;
  const lab = await openSopsLab(t);
  const { endpoint, region, credentials } = aws;
  const admin = new KMSClient({ endpoint, region, credentials });
  t.after(() => {
    admin.destroy();
  });
  const made = await admin.send(new CreateKeyCommand({}));
  const { Arn: arn = '', KeyId: id = '' } = made.KeyMetadata ?? {};
  const keyringWith = (config: KMSClientConfig): Keyring =>
    createKeyring({
      age: ageIdentity(() => Promise.resolve({ secretKeys: [], sshKeys: [], tried: [] })),
      gpg: { env: lab.env },
      awsKms: () => Promise.resolve(openAwsKms({ config })),
    });
  const keyring = keyringWith({ endpoint, region, credentials });
  const context = { 'niche-cache': 'acme' };
  const recipient = { kind: 'aws-kms', arn, context } as const;

  const ours = await encryptDocument({ tree, now, recipients: [[recipient]] }, keyring);
  assert.deepEqual(await lab.sopsDecrypt(ours, aws.env), plain);
  const theirs = await lab.sopsEncrypt(
    JSON.stringify(plain),
    ['--kms', arn, '--encryption-context', 'niche-cache:acme'],
    aws.env,
  );
  for (const document of [ours, theirs]) {
    const opened = await decryptDocument(document, keyring.identities, 'it');
    assert.deepEqual(toPlain(opened.tree as JsonValue), plain);
    assert.deepEqual(opened.openedBy, ['aws-kms']);
  }

  const refused = async (document: string, ring: Keyring, code: NicheErrorCode): Promise<void> => {
    await assert.rejects(decryptDocument(document, ring.identities, 'it'), (error) => {
      assert.ok(isNicheError(error, code), String(error));
      assert.ok(error.message.includes(arn));
      return true;
    });
  };
  await refused(ours.replace('"acme"', '"other"'), keyring, 'identity-failed');
  await admin.send(new DisableKeyCommand({ KeyId: id }));
  await refused(ours, keyring, 'identity-failed');
  await assert.rejects(
    encryptDocument({ tree, now, recipients: [[recipient]] }, keyring),
    (error) => isNicheError(error, 'unusable-recipient'),
  );
  await admin.send(new EnableKeyCommand({ KeyId: id }));
  const stranger = { accessKeyId: 'AKIANOBODY', secretAccessKey: 'wrong' };
  const denied = keyringWith({ endpoint, region, credentials: stranger });
  await refused(ours, denied, 'identity-failed');
  const nobody = keyringWith({
    endpoint,
    region,
    credentials: () =>
      Promise.reject(Object.assign(new Error('none'), { name: 'CredentialsProviderError' })),
  });
  await refused(ours, nobody, 'no-identity');
});
