import { NicheError, quote } from '../errors.ts';
import { openAzureKeyVault } from '../kms/azure.ts';
import type { AzureKeyVault } from '../kms/azure.ts';
import { encryptionFailure } from './kms.ts';
import type { DataKeyKms } from './kms.ts';

export interface AzureDataKeyOptions {
  /**
   * The only vault that is sent a token, as `https://acme.vault.azure.net`; null refuses every vault.
   * A document in a bucket names its vault, and a token sent to a foreign server is stolen.
   *
   * @default every vault
   */
  readonly allowedVault?: string | null;
}

const vaultGrammar = /^https:\/\/[A-Za-z0-9.-]+(?::\d+)?$/;

/** Returns Azure Key Vault for data keys. SOPS stores them in base64url. */
export function azureDataKeys(
  vault: AzureKeyVault,
  { allowedVault }: AzureDataKeyOptions = {},
): DataKeyKms<'azure-kv'> {
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
      if (allowedVault !== undefined && recipient.vaultUrl !== allowedVault) {
        throw forbidden(recipient.vaultUrl, allowedVault);
      }
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

function forbidden(vaultUrl: string, allowed: string | null): NicheError {
  return new NicheError(
    'identity-failed',
    `decrypting the signing key, which is encrypted for ${quote(vaultUrl)}: expected the vault of this deployment, ${allowed ?? 'which has none'}`,
    { hint: 'set NICHE_VAULT, or encrypt the document for the vault of the deployment' },
  );
}
