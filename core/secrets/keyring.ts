import { NicheError } from '../errors.ts';
import { wrapForAge } from './age.ts';
import { awsKmsIdentity, defaultAwsKmsClients, wrapForAwsKms } from './aws-kms.ts';
import type { AwsKmsClients } from './aws-kms.ts';
import { azureKvIdentity, defaultAzureKvClients, wrapForAzureKv } from './azure-kv.ts';
import type { AzureKvClients } from './azure-kv.ts';
import { defaultGcpKmsClients, gcpKmsIdentity, wrapForGcpKms } from './gcp-kms.ts';
import type { GcpKmsClients } from './gcp-kms.ts';
import type { GpgOptions } from './gpg.ts';
import { pgpIdentity, wrapForPgp } from './pgp.ts';
import { describeRecipient } from './recipient.ts';
import type { Identity, Keyring } from './recipient.ts';

export interface KeyringOptions {
  readonly age: Identity;
  readonly gpg: GpgOptions;
  /** @default those of AWS's own chain */
  readonly awsKms?: AwsKmsClients;
  /** @default those of Google's own chain */
  readonly gcpKms?: GcpKmsClients;
  /** @default those of Azure's own chain */
  readonly azureKv?: AzureKvClients;
}

/** Everything that this machine has to encrypt and decrypt data keys with. */
export function createKeyring({
  age,
  gpg,
  awsKms = defaultAwsKmsClients(),
  gcpKms = defaultGcpKmsClients(),
  azureKv = defaultAzureKvClients(),
}: KeyringOptions): Keyring {
  return {
    // What needs no network first; the clouds may take seconds to find that they have no credentials.
    identities: [
      age,
      pgpIdentity(gpg),
      awsKmsIdentity(awsKms),
      gcpKmsIdentity(gcpKms),
      azureKvIdentity(azureKv),
    ],
    async wrap(recipient, dataKey) {
      switch (recipient.kind) {
        case 'age':
          return wrapForAge(recipient, dataKey);
        case 'pgp':
          return wrapForPgp(gpg, recipient, dataKey);
        case 'aws-kms':
          return wrapForAwsKms(awsKms, recipient, dataKey);
        case 'gcp-kms':
          return wrapForGcpKms(gcpKms, recipient, dataKey);
        case 'azure-kv':
          return wrapForAzureKv(azureKv, recipient, dataKey);
        case 'other':
          throw new NicheError(
            'unusable-recipient',
            `niche cannot encrypt for ${describeRecipient(recipient)}`,
            { hint: 'change this document with sops itself' },
          );
      }
    },
  };
}
