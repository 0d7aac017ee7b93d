import { openAzureKeyVault } from '../kms/azure.ts';
import type { AzureKeyVault } from '../kms/azure.ts';
import { encryptionFailure } from './kms.ts';
import type { DataKeyKms } from './kms.ts';

const vaultGrammar = /^https:\/\/[A-Za-z0-9.-]+(?::\d+)?$/;

/** Returns Azure Key Vault for data keys. SOPS stores them in base64url. */
export function azureDataKeys(vault: AzureKeyVault): DataKeyKms<'azure-kv'> {
  return {
    kind: 'azure-kv',
    service: 'Azure Key Vault',
    permissions: {
      encrypt: 'the right to encrypt with the key',
      decrypt: 'the right to decrypt with the key',
    },
    keyId,
    encrypt: async (recipient, dataKey) =>
      Buffer.from(await vault.encrypt(recipient, dataKey)).toString('base64url'),
    async decrypt(recipient, wrapped) {
      if (!vaultGrammar.test(recipient.vaultUrl) || !/^[A-Za-z0-9_-]+$/.test(wrapped)) return null;
      return vault.decrypt(recipient, Buffer.from(wrapped, 'base64url'));
    },
  };
}

/**
 * Returns the newest version of a key. A SOPS document must specify the version.
 *
 * @throws NicheError `unusable-recipient`
 */
export async function newestAzureKeyVersion(vaultUrl: string, name: string): Promise<string> {
  const vault = openAzureKeyVault();
  try {
    return await vault.newestVersion(vaultUrl, name);
  } catch (cause) {
    throw encryptionFailure(
      azureDataKeys(vault),
      { kind: 'azure-kv', vaultUrl, name, version: '' },
      cause,
    );
  }
}

function keyId({ vaultUrl, name }: { readonly vaultUrl: string; readonly name: string }): string {
  return `${vaultUrl}/keys/${name}`;
}
