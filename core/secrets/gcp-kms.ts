import type { KeyManagementServiceClient } from '@google-cloud/kms';

import { NicheError, messageOf, quote } from '../errors.ts';
import { decodeBase64, encodeBase64 } from '../util/base64.ts';
import type { GcpKmsRecipient, Identity } from './recipient.ts';

/** What is used of Google's client. */
export type GcpKmsClient = Pick<KeyManagementServiceClient, 'close'> & {
  encrypt(request: { name: string; plaintext: Uint8Array }): Promise<GcpAnswer<'ciphertext'>>;
  decrypt(request: { name: string; ciphertext: Uint8Array }): Promise<GcpAnswer<'plaintext'>>;
};

type GcpAnswer<Name extends string> = readonly [
  Readonly<Partial<Record<Name, Uint8Array | string | null>>>,
  ...unknown[],
];

export type GcpKmsClients = () => Promise<GcpKmsClient>;

export const gcpKeyGrammar =
  /^projects\/[^/]+\/locations\/[^/]+\/keyRings\/[^/]+\/cryptoKeys\/[^/]+$/;

/** Clients with the credentials that Google's own tools would find. */
export function defaultGcpKmsClients(): GcpKmsClients {
  return async () => {
    const { KeyManagementServiceClient: Client } = await import('@google-cloud/kms');
    return new Client();
  };
}

/** What Google Cloud KMS decrypts for this machine's credentials. */
export function gcpKmsIdentity(clients: GcpKmsClients): Identity {
  const tried = new Set<string>();
  return {
    kind: 'gcp-kms',
    tried: () => [...tried],
    async unwrap({ recipient, wrapped }) {
      if (recipient.kind !== 'gcp-kms') return null;
      const { resourceId } = recipient;
      const ciphertext = decodeBase64(wrapped);
      if (ciphertext === null || !gcpKeyGrammar.test(resourceId)) {
        throw failed(resourceId, 'its record in the document is damaged');
      }
      const client = await clients();
      try {
        const [{ plaintext }] = await client.decrypt({ name: resourceId, ciphertext });
        tried.add('Google Cloud KMS');
        return bytesOf(plaintext);
      } catch (cause) {
        if (isWithoutCredentials(cause)) {
          tried.add('Google Cloud KMS, for which there are no credentials here');
          return null;
        }
        tried.add('Google Cloud KMS');
        throw failed(resourceId, quote(messageOf(cause)), cause);
      } finally {
        await client.close();
      }
    },
  };
}

/** @throws NicheError `unusable-recipient` */
export async function wrapForGcpKms(
  clients: GcpKmsClients,
  { resourceId }: GcpKmsRecipient,
  dataKey: Uint8Array,
): Promise<string> {
  const client = await clients();
  try {
    const [{ ciphertext }] = await client.encrypt({ name: resourceId, plaintext: dataKey });
    const bytes = bytesOf(ciphertext);
    if (!bytes) throw new Error('KMS gave nothing');
    return encodeBase64(bytes);
  } catch (cause) {
    throw new NicheError(
      'unusable-recipient',
      `cannot encrypt with the Google Cloud KMS key ${quote(resourceId)}: ${quote(messageOf(cause))}`,
      { cause, hint: 'it takes credentials with cloudkms.cryptoKeyVersions.useToEncrypt' },
    );
  } finally {
    await client.close();
  }
}

/** Bytes come as such over gRPC, as base64 over REST. */
function bytesOf(field: Uint8Array | string | null | undefined): Uint8Array | null {
  if (field === null || field === undefined) return null;
  return typeof field === 'string' ? decodeBase64(field) : Uint8Array.from(field);
}

function isWithoutCredentials(error: unknown): boolean {
  return /Could not load the default credentials|Unable to detect a Project Id/.test(
    messageOf(error),
  );
}

function failed(id: string, why: string, cause?: unknown): NicheError {
  return new NicheError(
    'identity-failed',
    `the Google Cloud KMS key ${quote(id)} did not decrypt the data key: ${why}`,
    { cause, hint: 'it takes credentials with cloudkms.cryptoKeyVersions.useToDecrypt' },
  );
}
