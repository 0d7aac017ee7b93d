import { signingDocument } from '../../core/cache/secret-documents.ts';
import { NicheError, quote } from '../../core/errors.ts';
import { openAwsKms } from '../../core/kms/aws.ts';
import { openGoogleKms } from '../../core/kms/google.ts';
import {
  formatPublicKey,
  formatSecretKey,
  generateSecretKey,
  parseSecretKey,
} from '../../core/nix/keys.ts';
import { describeRecipient } from '../../core/secrets/recipient.ts';
import { createSigningKey, readPublicKey } from '../../core/signing/kms.ts';
import { formatSignerSpec } from '../../core/signing/signer-spec.ts';
import type { SignerSpec } from '../../core/signing/signer-spec.ts';
import type { Context } from '../process/context.ts';
import { nonEmpty } from '../process/environment.ts';
import {
  defaultSecretKeyFile,
  readSecretKeyFile,
  writeSecretKeyFile,
} from '../secrets/signing-keys.ts';
import type { Readers } from './secrets.ts';

/** The keys of a new cache: a KMS key, a secret key, or both with different names. */
interface SigningKeys {
  readonly publicKeys: readonly string[];
  /** The secret key in Nix's format, for the signing document; empty if there is none. */
  readonly secretKey: string;
  /** Lines of the result for people. */
  readonly lines: readonly string[];
  /** Fields of the JSON result. */
  readonly json: object;
  /** Writes a new secret key to its file. Call it once the cache is sure to be created. */
  save(): Promise<void>;
}

interface SigningKeyFlags {
  readonly name: string;
  readonly keyName?: string;
  readonly secretKeyFile?: string;
  readonly signer?: SignerSpec;
  readonly createKey: boolean;
}

/**
 * Reads, generates or creates the keys of a new cache.
 *
 * @throws NicheError `usage`; `malformed-key`, `storage-denied` for the key file; the codes of the KMS
 */
export async function chooseSigningKeys(
  flags: SigningKeyFlags,
  readers: Readers,
  context: Context,
): Promise<SigningKeys> {
  const { signer, createKey } = flags;
  const keyName = flags.keyName ?? signer?.name ?? `${flags.name}-1`;
  if (createKey && signer?.key.startsWith('alias/') !== true) {
    throw new NicheError(
      'usage',
      'cannot create a KMS key: --create-key requires a --signer with an alias',
      {
        hint: 'pass --signer aws-kms:alias/NAME',
      },
    );
  }
  if (!signer) return secretKeyOf(flags, keyName, readers, context);
  const kms = await kmsKey({ ...signer, name: keyName }, createKey, flags.name, context);
  // A secret key signs fingerprints that are too long for the KMS. Somebody must be able to read it.
  const canUseSecretKey = flags.secretKeyFile !== undefined || readers.publishers.length > 0;
  if (!canUseSecretKey) return kms;
  const secret = await secretKeyOf(flags, `${keyName}-long`, readers, context);
  return {
    ...secret,
    publicKeys: [...kms.publicKeys, ...secret.publicKeys],
    lines: [...kms.lines, ...secret.lines],
    json: { ...kms.json, ...secret.json },
  };
}

async function secretKeyOf(
  flags: SigningKeyFlags,
  keyName: string,
  readers: Readers,
  context: Context,
): Promise<SigningKeys> {
  // The cache itself stores the key, encrypted, if there are publishers.
  const file =
    flags.secretKeyFile ??
    (readers.publishers.length > 0 ? null : defaultSecretKeyFile(context.env, keyName));
  const existing = file === null ? null : await readSecretKeyFile(file);
  const secretKey = existing ?? formatSecretKey(generateSecretKey(keyName));
  return {
    publicKeys: [formatPublicKey(parseSecretKey(secretKey).publicKey)],
    secretKey,
    lines: [`secret key: ${describeKey(file, existing === null, readers)}`],
    json: file === null ? {} : { secretKeyFile: file },
    async save() {
      if (file !== null && existing === null) await writeSecretKeyFile(file, secretKey);
    },
  };
}

async function kmsKey(
  spec: SignerSpec & { readonly name: string },
  createKey: boolean,
  cacheName: string,
  context: Context,
): Promise<SigningKeys> {
  if (createKey) {
    await createSigningKey(openAwsKms(), spec.key, `Signs the Nix binary cache ${cacheName}`);
  }
  const signer = formatSignerSpec(spec);
  return {
    publicKeys: [await publicKeyOf(spec, context)],
    secretKey: '',
    lines: [`signer:     ${signer} (set NICHE_SIGNERS to this for the publisher)`],
    json: { signer },
    save: () => Promise.resolve(),
  };
}

/**
 * Returns the public key of a KMS key. `NICHE_KMS_ENDPOINT` selects an endpoint of Google's other than
 * the global one, as in the functions; AWS has its own variable.
 *
 * @throws NicheError `usage` for a key outside a KMS; the codes of the KMS
 */
export async function publicKeyOf(
  spec: SignerSpec & { readonly name: string },
  { env }: Context,
): Promise<string> {
  switch (spec.kind) {
    case 'aws-kms':
      return readPublicKey(openAwsKms(), spec.key, spec.name);
    case 'gcp-kms':
      return readPublicKey(
        openGoogleKms({ endpoint: nonEmpty(env['NICHE_KMS_ENDPOINT']) }),
        spec.key,
        spec.name,
      );
    case 'secret-key':
      throw new NicheError(
        'usage',
        `invalid signer ${quote(formatSignerSpec(spec))}: expected a key of a KMS`,
      );
  }
}

function describeKey(file: string | null, isNew: boolean, { publishers }: Readers): string {
  const encrypted =
    publishers.length === 0
      ? ''
      : `in ${signingDocument.key}, for ${publishers.map(describeRecipient).join(', ')}`;
  if (file === null) return encrypted;
  const remark = isNew ? ' (new; back it up, it cannot be recreated)' : ' (existing)';
  return `${file}${remark}${encrypted === '' ? '' : `; also ${encrypted}`}`;
}
