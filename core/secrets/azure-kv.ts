import type { CryptographyClient } from '@azure/keyvault-keys';

import { NicheError, messageOf, quote } from '../errors.ts';
import type { AzureKvRecipient, Identity } from './recipient.ts';

/** What is used of Azure's client. */
export type AzureKvClient = Pick<CryptographyClient, 'encrypt' | 'decrypt'>;

/** The client of one key. */
export type AzureKvClients = (recipient: AzureKvRecipient) => Promise<AzureKvClient>;

const vaultGrammar = /^https:\/\/[A-Za-z0-9.-]+(?::\d+)?$/;

/** Clients with the credentials that Azure's own tools would find. */
export function defaultAzureKvClients(): AzureKvClients {
  return async ({ vaultUrl, name, version }) => {
    const [{ CryptographyClient: Client }, { DefaultAzureCredential }] = await Promise.all([
      import('@azure/keyvault-keys'),
      import('@azure/identity'),
    ]);
    return new Client(`${vaultUrl}/keys/${name}/${version}`, new DefaultAzureCredential());
  };
}

/** The newest version of a key, which a document has to name. */
export async function newestAzureKeyVersion(vaultUrl: string, name: string): Promise<string> {
  const [{ KeyClient }, { DefaultAzureCredential }] = await Promise.all([
    import('@azure/keyvault-keys'),
    import('@azure/identity'),
  ]);
  try {
    const key = await new KeyClient(vaultUrl, new DefaultAzureCredential()).getKey(name);
    return key.properties.version ?? '';
  } catch (cause) {
    throw unusable(`${vaultUrl}/keys/${name}`, cause);
  }
}

/** What Azure Key Vault decrypts for this machine's credentials. */
export function azureKvIdentity(clients: AzureKvClients): Identity {
  const tried = new Set<string>();
  return {
    kind: 'azure-kv',
    tried: () => [...tried],
    async unwrap({ recipient, wrapped }) {
      if (recipient.kind !== 'azure-kv') return null;
      const id = `${recipient.vaultUrl}/keys/${recipient.name}`;
      if (!vaultGrammar.test(recipient.vaultUrl) || !/^[A-Za-z0-9_-]+$/.test(wrapped)) {
        throw failed(id, 'its record in the document is damaged');
      }
      const client = await clients(recipient);
      try {
        const ciphertext = Buffer.from(wrapped, 'base64url');
        const { result } = await client.decrypt({ algorithm: 'RSA-OAEP-256', ciphertext });
        tried.add('Azure Key Vault');
        return result;
      } catch (cause) {
        if (isWithoutCredentials(cause)) {
          tried.add('Azure Key Vault, for which there are no credentials here');
          return null;
        }
        tried.add('Azure Key Vault');
        throw failed(id, quote(messageOf(cause)), cause);
      }
    },
  };
}

/** @throws NicheError `unusable-recipient` */
export async function wrapForAzureKv(
  clients: AzureKvClients,
  recipient: AzureKvRecipient,
  dataKey: Uint8Array,
): Promise<string> {
  try {
    const client = await clients(recipient);
    const { result } = await client.encrypt({ algorithm: 'RSA-OAEP-256', plaintext: dataKey });
    return Buffer.from(result).toString('base64url');
  } catch (cause) {
    throw unusable(`${recipient.vaultUrl}/keys/${recipient.name}`, cause);
  }
}

function isWithoutCredentials(error: unknown): boolean {
  return (
    error instanceof Error &&
    (error.name === 'CredentialUnavailableError' ||
      (error.name === 'AggregateAuthenticationError' &&
        /unavailable|failed to retrieve/i.test(error.message)))
  );
}

function unusable(id: string, cause: unknown): NicheError {
  return new NicheError(
    'unusable-recipient',
    `cannot encrypt with the Azure Key Vault key ${quote(id)}: ${quote(messageOf(cause))}`,
    { cause, hint: 'it takes an Azure identity that is allowed to encrypt with the key' },
  );
}

function failed(id: string, why: string, cause?: unknown): NicheError {
  return new NicheError(
    'identity-failed',
    `the Azure Key Vault key ${quote(id)} did not decrypt the data key: ${why}`,
    { cause, hint: 'it takes an Azure identity that is allowed to decrypt with the key' },
  );
}
