import { NicheError } from '../errors.ts';
import { openAzureKeyVault } from '../kms/azure.ts';
import type { AzureKeyVault } from '../kms/azure.ts';
import { openGoogleKms } from '../kms/google.ts';
import type { GoogleKms } from '../kms/google.ts';
import { wrapForAge } from './age.ts';
import { awsDataKeys, openAwsKmsFor } from './aws-kms.ts';
import type { OpenAwsKms } from './aws-kms.ts';
import { azureDataKeys } from './azure-kv.ts';
import { googleDataKeys } from './gcp-kms.ts';
import type { GpgOptions } from './gpg.ts';
import { kmsIdentity, wrapForKms } from './kms.ts';
import { pgpIdentity, wrapForPgp } from './pgp.ts';
import { describeRecipient } from './recipient.ts';
import type { Identity, Keyring } from './recipient.ts';

export interface KeyringOptions {
  readonly age: Identity;
  readonly gpg: GpgOptions;
  /** @default clients with the credentials of AWS's own chain */
  readonly awsKms?: OpenAwsKms;
  /** @default a client with application default credentials */
  readonly gcpKms?: GoogleKms;
  /** @default a client with the credentials of DefaultAzureCredential */
  readonly azureKv?: AzureKeyVault;
}

/** Returns all that encrypts and decrypts data keys on this machine. */
export function createKeyring({
  age,
  gpg,
  awsKms = openAwsKmsFor,
  gcpKms = openGoogleKms(),
  azureKv = openAzureKeyVault(),
}: KeyringOptions): Keyring {
  const aws = awsDataKeys(awsKms);
  const google = googleDataKeys(gcpKms);
  const azure = azureDataKeys(azureKv);
  return {
    // Local identities first: a cloud may take seconds to find out that it has no credentials.
    identities: [age, pgpIdentity(gpg), kmsIdentity(aws), kmsIdentity(google), kmsIdentity(azure)],
    async wrap(recipient, dataKey) {
      switch (recipient.kind) {
        case 'age':
          return wrapForAge(recipient, dataKey);
        case 'pgp':
          return wrapForPgp(gpg, recipient, dataKey);
        case 'aws-kms':
          return wrapForKms(aws, recipient, dataKey);
        case 'gcp-kms':
          return wrapForKms(google, recipient, dataKey);
        case 'azure-kv':
          return wrapForKms(azure, recipient, dataKey);
        case 'other':
          throw new NicheError(
            'unusable-recipient',
            `niche cannot encrypt for ${describeRecipient(recipient)}`,
            { hint: 'edit this document with sops' },
          );
      }
    },
  };
}
