import { NicheError } from '../errors.ts';
import { formatPublicKey, formatSignature, parsePublicKey } from '../nix/keys.ts';
import type { AwsKms } from '../kms/aws.ts';
import { KmsError } from '../kms/kms.ts';
import type { KmsErrorReason, SigningKms } from '../kms/kms.ts';
import type { Signer } from './signer.ts';

/**
 * Returns a signer whose key never leaves the KMS. Signing throws NicheError `signer-denied`,
 * `signer-unavailable` (a later attempt may succeed) and `wrong-key` (the key is missing, disabled,
 * or of another kind).
 *
 * @param key as the KMS identifies keys
 * @param publicKey the key's public half, as {@link readPublicKey} returns it
 * @throws NicheError `malformed-key`
 */
export function kmsSigner(kms: SigningKms, key: string, publicKey: string): Signer {
  const { name } = parsePublicKey(publicKey);
  return {
    keyName: name,
    publicKey,
    keyId: key,
    maxBytes: kms.maxMessageBytes,
    async sign(fingerprint) {
      const { signature, requestId } = await withSignerErrors(kms, `signing with ${key}`, () =>
        kms.sign(key, Buffer.from(fingerprint)),
      );
      return {
        signature: formatSignature({ name, signature }),
        ...(requestId === undefined ? {} : { requestId }),
      };
    },
  };
}

/**
 * Returns the public half of a key as `<key name>:<base64>`.
 *
 * @param keyName the name of the key in signatures
 * @throws NicheError `signer-denied`, `signer-unavailable`, `wrong-key`
 */
export async function readPublicKey(
  kms: SigningKms,
  key: string,
  keyName: string,
): Promise<string> {
  const bytes = await withSignerErrors(kms, `reading the public key of ${key}`, () =>
    kms.publicKey(key),
  );
  return formatPublicKey({ name: keyName, key: bytes });
}

/**
 * Creates a signing key in AWS KMS. It costs a dollar a month.
 *
 * @param alias `alias/…`
 * @returns its ARN
 * @throws NicheError `usage` if the alias is taken; `signer-denied`, `signer-unavailable`, `wrong-key`
 */
export async function createSigningKey(
  kms: AwsKms,
  alias: string,
  description: string,
): Promise<string> {
  return withSignerErrors(kms, `creating the key ${alias}`, () =>
    kms.createKey(alias, description),
  );
}

const codes = {
  'no-credentials': 'signer-denied',
  denied: 'signer-denied',
  'wrong-key': 'wrong-key',
  'wrong-ciphertext': 'wrong-key',
  exists: 'usage',
  unavailable: 'signer-unavailable',
} as const satisfies Record<KmsErrorReason, string>;

/** @param action for the message, as `signing with alias/niche` */
async function withSignerErrors<T>(
  { service, signPermissions }: SigningKms,
  action: string,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof KmsError)) throw error;
    const code = codes[error.reason];
    const isDenied = error.reason === 'denied';
    const hint = error.hint ?? (isDenied ? `allow ${signPermissions} on the key` : undefined);
    throw new NicheError(code, `${action} at ${service}: ${error.message}`, {
      cause: error,
      ...(hint === undefined ? {} : { hint }),
    });
  }
}
