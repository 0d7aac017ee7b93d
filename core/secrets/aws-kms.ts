import type { KMSClient } from '@aws-sdk/client-kms';

import { NicheError, messageOf, quote } from '../errors.ts';
import { decodeBase64, encodeBase64 } from '../util/base64.ts';
import type { AwsKmsRecipient, Identity } from './recipient.ts';

/** Makes the client that uses a key: of its region, with its profile, in its role. */
export type AwsKmsClients = (recipient: AwsKmsRecipient) => Promise<KMSClient>;

const arnGrammar = /^arn:aws[\w-]*:kms:([a-z0-9-]+):[0-9]+:(?:key|alias)\/.+$/;

/** The region of a key's ARN; null for what is none. */
export function regionOfArn(arn: string): string | null {
  return arnGrammar.exec(arn)?.[1] ?? null;
}

/** Clients with the credentials that AWS's own tools would find. */
export function defaultAwsKmsClients(): AwsKmsClients {
  return async ({ arn, role, profile }) => {
    const { KMSClient: Client } = await import('@aws-sdk/client-kms');
    const region = regionOfArn(arn) ?? '';
    const settings = { region, ...(profile === undefined ? {} : { profile }) };
    if (role === undefined) return new Client(settings);
    const { fromNodeProviderChain, fromTemporaryCredentials } =
      await import('@aws-sdk/credential-providers');
    return new Client({
      ...settings,
      credentials: fromTemporaryCredentials({
        masterCredentials: fromNodeProviderChain(settings),
        params: { RoleArn: role, RoleSessionName: 'niche' },
        clientConfig: { region },
      }),
    });
  };
}

/** What AWS KMS decrypts for this machine's credentials. */
export function awsKmsIdentity(clients: AwsKmsClients): Identity {
  const tried = new Set<string>();
  return {
    kind: 'aws-kms',
    tried: () => [...tried],
    async unwrap({ recipient, wrapped }) {
      if (recipient.kind !== 'aws-kms') return null;
      const ciphertext = decodeBase64(wrapped);
      const { arn, context } = recipient;
      if (ciphertext === null || regionOfArn(arn) === null) {
        throw failed(arn, 'its record in the document is damaged');
      }
      const { DecryptCommand } = await import('@aws-sdk/client-kms');
      const client = await clients(recipient);
      try {
        const { Plaintext } = await client.send(
          new DecryptCommand({
            KeyId: arn,
            CiphertextBlob: ciphertext,
            EncryptionContext: context && { ...context },
          }),
        );
        tried.add('AWS KMS');
        return Plaintext ?? null;
      } catch (cause) {
        if (isWithoutCredentials(cause)) {
          tried.add('AWS KMS, for which there are no credentials here');
          return null;
        }
        tried.add('AWS KMS');
        throw failed(arn, explain(cause), cause);
      } finally {
        client.destroy();
      }
    },
  };
}

/** @throws NicheError `unusable-recipient` */
export async function wrapForAwsKms(
  clients: AwsKmsClients,
  recipient: AwsKmsRecipient,
  dataKey: Uint8Array,
): Promise<string> {
  const { arn, context } = recipient;
  const { EncryptCommand } = await import('@aws-sdk/client-kms');
  const client = await clients(recipient);
  try {
    const { CiphertextBlob } = await client.send(
      new EncryptCommand({
        KeyId: arn,
        Plaintext: dataKey,
        EncryptionContext: context && { ...context },
      }),
    );
    if (!CiphertextBlob) throw new Error('KMS gave nothing');
    return encodeBase64(CiphertextBlob);
  } catch (cause) {
    throw new NicheError(
      'unusable-recipient',
      `cannot encrypt with the AWS KMS key ${quote(arn)}: ${explain(cause)}`,
      { cause, hint: 'it takes credentials that are allowed kms:Encrypt on the key' },
    );
  } finally {
    client.destroy();
  }
}

function isWithoutCredentials(error: unknown): boolean {
  return error instanceof Error && error.name === 'CredentialsProviderError';
}

function explain(error: unknown): string {
  const name = error instanceof Error ? error.name : '';
  if (name.includes('AccessDenied')) return `denied: ${quote(messageOf(error))}`;
  if (name === 'InvalidCiphertextException') {
    return 'what is in the document was not encrypted by this key in this context';
  }
  if (isWithoutCredentials(error)) return 'there are no AWS credentials here';
  return quote(`${name}: ${messageOf(error)}`);
}

function failed(arn: string, why: string, cause?: unknown): NicheError {
  return new NicheError(
    'identity-failed',
    `the AWS KMS key ${quote(arn)} did not decrypt the data key: ${why}`,
    { cause, hint: 'it takes credentials that are allowed kms:Decrypt on the key' },
  );
}
