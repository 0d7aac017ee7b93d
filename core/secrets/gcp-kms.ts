import type { GoogleKms } from '../kms/google.ts';
import { decodeBase64, encodeBase64 } from '../util/base64.ts';
import type { DataKeyKms } from './kms.ts';

/**
 * The resource name of a key. It becomes the path of a URL, so it has no `?`, `%` or `..`.
 *
 * @see https://cloud.google.com/kms/docs/getting-resource-ids
 */
export const gcpKeyGrammar =
  /^projects\/[a-z0-9][\w.:-]*\/locations\/[\w-]+\/keyRings\/[\w-]+\/cryptoKeys\/[\w-]+$/;

/** Returns Google Cloud KMS for data keys. SOPS stores them in base64. */
export function googleDataKeys(kms: GoogleKms): DataKeyKms<'gcp-kms'> {
  return {
    kind: 'gcp-kms',
    service: kms.service,
    permissions: {
      encrypt: 'cloudkms.cryptoKeyVersions.useToEncrypt',
      decrypt: 'cloudkms.cryptoKeyVersions.useToDecrypt',
    },
    keyId: ({ resourceId }) => resourceId,
    encrypt: async ({ resourceId }, dataKey) =>
      encodeBase64(await kms.encrypt(resourceId, dataKey)),
    async decrypt({ resourceId }, wrapped) {
      const ciphertext = decodeBase64(wrapped);
      if (ciphertext === null || !gcpKeyGrammar.test(resourceId)) return null;
      return kms.decrypt(resourceId, ciphertext);
    },
  };
}
