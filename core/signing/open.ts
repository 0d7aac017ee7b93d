import { NicheError } from '../errors.ts';
import { openAwsKms } from './aws-kms.ts';
import type { AwsKms } from './aws-kms.ts';
import { openGcpKms } from './gcp-kms.ts';
import type { GcpKms } from './gcp-kms.ts';
import { secretKeySigner } from './secret-key.ts';
import { formatSignerSpec } from './signer-spec.ts';
import type { SignerSpec } from './signer-spec.ts';
import type { Signer } from './signer.ts';

export interface OpenSignerOptions {
  /** A ready AWS KMS; else one is opened as the environment says. */
  readonly awsKms?: AwsKms | undefined;
  /** A ready Google Cloud KMS; else one is opened as the environment says. */
  readonly gcpKms?: GcpKms | undefined;
  /** Brings a secret key, in Nix's own form, by its name; asked once, before the first signature. */
  readonly secretKey?: ((keyName: string) => Promise<string>) | undefined;
}

/**
 * The signer that `spec` names, with its public key found among those of the cache. Nothing is asked
 * of a KMS before the first signature, which is then verified under that key.
 *
 * @param publicKeys `niche.json`'s
 * @throws NicheError `wrong-key` when the cache has no key of that name, or several and none is named
 */
export function openSigner(
  spec: SignerSpec,
  publicKeys: readonly string[],
  options: OpenSignerOptions = {},
): Signer {
  const named = publicKeys.filter((key) => spec.name === null || key.startsWith(`${spec.name}:`));
  const [publicKey] = named;
  if (publicKey === undefined || named.length > 1) {
    throw new NicheError(
      'wrong-key',
      `the signer ${formatSignerSpec(spec)} has no key of the cache: expected the name of one of ${publicKeys.join(' ')}`,
      { hint: 'write its name into the signer: …?name=<key name>' },
    );
  }
  switch (spec.kind) {
    case 'aws-kms':
      return (options.awsKms ?? openAwsKms()).signer(spec.key, publicKey);
    case 'gcp-kms':
      return (options.gcpKms ?? openGcpKms()).signer(spec.key, publicKey);
    case 'secret-key':
      return storedKeySigner(spec.key, publicKey, options.secretKey);
  }
}

function storedKeySigner(
  keyName: string,
  publicKey: string,
  load: OpenSignerOptions['secretKey'],
): Signer {
  if (!load) {
    throw new NicheError('invalid-signer', `the secret key ${keyName} cannot be read from here`);
  }
  let signer: Promise<Signer> | undefined;
  return {
    keyName,
    publicKey,
    async sign(fingerprint) {
      signer ??= load(keyName).then(secretKeySigner);
      // What failed is tried again by the next signature.
      signer.catch(() => (signer = undefined));
      return (await signer).sign(fingerprint);
    },
  };
}
