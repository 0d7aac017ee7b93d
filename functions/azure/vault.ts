import { NicheError, quote } from '../../core/errors.ts';
import type { AzureKvClients } from '../../core/secrets/azure-kv.ts';

/** The version of Key Vault's interface. */
const apiVersion = '7.4';
/** For one answer, in milliseconds. */
const timeoutMs = 10_000;
/** What tokens for Key Vault are for, in the public cloud. */
const publicCloud = 'https://vault.azure.net';

/**
 * Asks Key Vault to decrypt, over its REST interface: one request is no reason for its SDK. Other
 * vaults than `vault` are refused, since the document that names them lies in a bucket, and whoever
 * is asked is shown a token.
 *
 * @param vault `https://acme.vault.azure.net`; undefined refuses every vault
 * @see https://learn.microsoft.com/rest/api/keyvault/keys/decrypt/decrypt
 */
export function vaultClients(vault: string | undefined): AzureKvClients {
  return async ({ vaultUrl, name, version }) => {
    if (vaultUrl !== vault) {
      throw new NicheError(
        'identity-failed',
        `the signing key is encrypted for ${quote(vaultUrl)}: expected the vault of this deployment, ${vault ?? 'which has none'}`,
        { hint: 'set NICHE_VAULT, or encrypt the document for the vault that is deployed' },
      );
    }
    const { DefaultAzureCredential } = await import('@azure/identity');
    const credential = new DefaultAzureCredential();
    const operation = async (
      verb: 'encrypt' | 'decrypt',
      alg: string,
      value: Uint8Array,
    ): Promise<Uint8Array> => {
      const token = await credential.getToken(`${audienceOf(vaultUrl)}/.default`);
      const url = `${vaultUrl}/keys/${name}/${version}/${verb}?api-version=${apiVersion}`;
      const response = await fetch(url, {
        method: 'POST',
        headers: { authorization: `Bearer ${token.token}`, 'content-type': 'application/json' },
        body: JSON.stringify({ alg, value: Buffer.from(value).toString('base64url') }),
        signal: AbortSignal.timeout(timeoutMs),
      });
      const answer = (await response.json()) as {
        value?: string;
        error?: { code?: string; message?: string };
      };
      if (!response.ok || answer.value === undefined) {
        const { code = '', message = '' } = answer.error ?? {};
        throw new Error(`${response.status} ${code}: ${message}`);
      }
      return Buffer.from(answer.value, 'base64url');
    };
    const client: Operations = {
      async decrypt({ algorithm, ciphertext }) {
        return { algorithm, result: await operation('decrypt', algorithm, ciphertext) };
      },
      encrypt: () => Promise.reject(new Error('the publisher encrypts nothing')),
    };
    return client as unknown as Awaited<ReturnType<AzureKvClients>>;
  };
}

/** Of the SDK's client, what decrypting takes. */
interface Operations {
  decrypt(parameters: {
    readonly algorithm: string;
    readonly ciphertext: Uint8Array;
  }): Promise<{ algorithm: string; result: Uint8Array }>;
  encrypt(): Promise<never>;
}

/** `https://vault.azure.net` of `https://acme.vault.azure.net`, and so in Azure's other clouds. */
function audienceOf(vaultUrl: string): string {
  const [, suffix] = /^https:\/\/[^.]+\.((?:vault|managedhsm)\.[a-z.]+)$/.exec(vaultUrl) ?? [];
  return suffix === undefined ? publicCloud : `https://${suffix}`;
}
