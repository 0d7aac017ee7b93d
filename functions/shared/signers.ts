import { readSigningKey } from '../../core/cache/keys/signing-keys.ts';
import { openAwsKms } from '../../core/kms/aws.ts';
import { openGoogleKms } from '../../core/kms/google.ts';
import type { SigningKms } from '../../core/kms/kms.ts';
import type { Identity } from '../../core/secrets/recipient.ts';
import { kmsSigner } from '../../core/signing/kms.ts';
import { secretKeySigner } from '../../core/signing/secret-key.ts';
import { lazySigner } from '../../core/signing/signer.ts';
import type { Signer } from '../../core/signing/signer.ts';
import { findPublicKey } from '../../core/signing/signer-spec.ts';
import type { SignerSpec } from '../../core/signing/signer-spec.ts';
import type { Bucket } from '../../core/storage/bucket.ts';

/** The clients that signers use. @default ones with the settings of the environment */
export interface KmsClients {
  readonly aws?: SigningKms | undefined;
  readonly google?: SigningKms | undefined;
}

export interface SignerSources {
  /** Those of `niche.json`. */
  readonly publicKeys: readonly string[];
  /** The root of `niche.signing.json`. */
  readonly privateRoot: Bucket;
  /** Decrypt `niche.signing.json`. */
  readonly identities: readonly Identity[];
  readonly kms: KmsClients;
}

/**
 * Opens a signer. It requests nothing before the first signature: not from a KMS, and no key of
 * `niche.signing.json`.
 *
 * @throws NicheError `wrong-key` if the cache has no public key for it
 */
export function openSigner(
  spec: SignerSpec,
  { publicKeys, privateRoot, identities, kms }: SignerSources,
): Signer {
  const publicKey = findPublicKey(spec, publicKeys);
  switch (spec.kind) {
    case 'aws-kms':
      return kmsSigner(kms.aws ?? openAwsKms(), spec.key, publicKey);
    case 'gcp-kms':
      return kmsSigner(kms.google ?? openGoogleKms(), spec.key, publicKey);
    case 'secret-key':
      return lazySigner(publicKey, async () =>
        secretKeySigner(await readSigningKey(privateRoot, identities, spec.key)),
      );
  }
}
