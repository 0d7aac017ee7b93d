import { openAwsKms } from '../kms/aws.ts';
import type { AwsKms } from '../kms/aws.ts';
import { decodeBase64, encodeBase64 } from '../util/base64.ts';
import type { DataKeyKms } from './kms.ts';
import type { AwsKmsRecipient } from './recipient.ts';

/** Opens the client for a key: in its region, with its profile, in its role. */
export type OpenAwsKms = (recipient: AwsKmsRecipient) => Promise<AwsKms>;

/** @see https://docs.aws.amazon.com/kms/latest/developerguide/concepts.html#key-id-key-ARN */
const arnGrammar = /^arn:aws[\w-]*:kms:([a-z0-9-]+):[0-9]+:(?:key|alias)\/.+$/;

/** Returns the region of a key's ARN; null for other text. */
export function regionOfArn(arn: string): string | null {
  return arnGrammar.exec(arn)?.[1] ?? null;
}

/** Opens a client with the credentials that AWS's own tools would use. */
export const openAwsKmsFor: OpenAwsKms = async ({ arn, role, profile }) => {
  const region = regionOfArn(arn) ?? '';
  const settings = { region, ...(profile === undefined ? {} : { profile }) };
  if (role === undefined) return openAwsKms({ config: settings });
  const { fromNodeProviderChain, fromTemporaryCredentials } =
    await import('@aws-sdk/credential-providers');
  return openAwsKms({
    config: {
      ...settings,
      credentials: fromTemporaryCredentials({
        masterCredentials: fromNodeProviderChain(settings),
        params: { RoleArn: role, RoleSessionName: 'niche' },
        clientConfig: { region },
      }),
    },
  });
};

/** Returns AWS KMS for data keys. SOPS stores them in base64. */
export function awsDataKeys(open: OpenAwsKms): DataKeyKms<'aws-kms'> {
  async function use<T>(recipient: AwsKmsRecipient, work: (kms: AwsKms) => Promise<T>): Promise<T> {
    const kms = await open(recipient);
    try {
      return await work(kms);
    } finally {
      await kms.close();
    }
  }

  return {
    kind: 'aws-kms',
    service: 'AWS KMS',
    permissions: { encrypt: 'kms:Encrypt on the key', decrypt: 'kms:Decrypt on the key' },
    keyId: ({ arn }) => arn,
    encrypt: (recipient, dataKey) =>
      use(recipient, async (kms) =>
        encodeBase64(await kms.encrypt(recipient.arn, dataKey, recipient.context)),
      ),
    async decrypt(recipient, wrapped) {
      const ciphertext = decodeBase64(wrapped);
      if (ciphertext === null || regionOfArn(recipient.arn) === null) return null;
      return use(recipient, (kms) => kms.decrypt(recipient.arn, ciphertext, recipient.context));
    },
  };
}
