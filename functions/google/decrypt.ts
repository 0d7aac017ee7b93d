import type { GcpKmsClient, GcpKmsClients } from '../../core/secrets/gcp-kms.ts';
import { crc32c } from '../../core/util/crc32c.ts';

/** For one answer, in milliseconds. */
const timeoutMs = 10_000;

/**
 * Asks Cloud KMS to decrypt the data key of `niche.signing.json`, over its REST interface; the client
 * of Google's would make the bundle six times as large.
 *
 * @see https://cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys/decrypt
 */
export function kmsClients(endpoint: string): GcpKmsClients {
  return async () => {
    const { GoogleAuth } = await import('google-auth-library');
    const auth = new GoogleAuth({ scopes: 'https://www.googleapis.com/auth/cloudkms' });
    const client = await auth.getClient();
    const kms: GcpKmsClient = {
      async decrypt({ name, ciphertext }) {
        const { data } = await client.request<{ plaintext?: string; plaintextCrc32c?: string }>({
          url: `${endpoint}/v1/${name}:decrypt`,
          method: 'POST',
          data: {
            ciphertext: Buffer.from(ciphertext).toString('base64'),
            ciphertextCrc32c: String(crc32c(ciphertext)),
          },
          timeout: timeoutMs,
        });
        const plaintext = Buffer.from(data.plaintext ?? '', 'base64');
        if (data.plaintextCrc32c !== String(crc32c(plaintext))) {
          throw new Error('what was decrypted came damaged');
        }
        return [{ plaintext }];
      },
      encrypt: () => Promise.reject(new Error('the publisher encrypts nothing')),
      close: () => Promise.resolve(),
    };
    return kms;
  };
}
