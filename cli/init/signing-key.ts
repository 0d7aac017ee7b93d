import { signingDocument } from '../../core/cache/secret-documents.ts';
import { NicheError } from '../../core/errors.ts';
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

/** What signs a new cache: a key of a KMS, a secret key, or both, each in its own name. */
interface SigningKeys {
  readonly publicKeys: readonly string[];
  /** In Nix's own form, for the signing document; empty where there is none. */
  readonly secretKey: string;
  /** For people. */
  readonly lines: readonly string[];
  /** For machines. */
  readonly json: object;
  /** Keeps what was made, once it is sure to be of use. */
  keep(): Promise<void>;
}

interface SigningKeyFlags {
  readonly name: string;
  readonly keyName?: string;
  readonly secretKeyFile?: string;
  readonly signer?: SignerSpec;
  readonly createKey: boolean;
}

/** @throws NicheError `usage`, and what the KMS throws */
export async function chooseSigningKeys(
  flags: SigningKeyFlags,
  readers: Readers,
  context: Context,
): Promise<SigningKeys> {
  const { signer, createKey } = flags;
  const keyName = flags.keyName ?? signer?.name ?? `${flags.name}-1`;
  if (createKey && signer?.key.startsWith('alias/') !== true) {
    throw new NicheError('usage', '--create-key makes the key that --signer names by its alias', {
      hint: 'add --signer aws-kms:alias/…',
    });
  }
  if (!signer) return secretKeyOf(flags, keyName, readers, context);
  const kms = await kmsKey({ ...signer, name: keyName }, createKey, flags.name, context);
  // It signs what is too long for the KMS, where there is somebody to read it.
  const beside = flags.secretKeyFile !== undefined || readers.publishers.length > 0;
  if (!beside) return kms;
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
  // A key that the cache keeps, encrypted, needs no file.
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
    async keep() {
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
    lines: [`signer:     ${signer} (for NICHE_SIGNERS of whatever publishes)`],
    json: { signer },
    keep: () => Promise.resolve(),
  };
}

/**
 * The public half of a KMS's key. `NICHE_KMS_ENDPOINT` is another place of Google's than the global
 * one, as it is for its functions; AWS has a variable of its own.
 *
 * @throws NicheError `usage` for what is no key of a KMS, and what the KMS throws
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
      throw new NicheError('usage', `${formatSignerSpec(spec)} is no key of a KMS`);
  }
}

function describeKey(file: string | null, isNew: boolean, { publishers }: Readers): string {
  const encrypted =
    publishers.length === 0
      ? ''
      : `in ${signingDocument.key}, for ${publishers.map(describeRecipient).join(', ')}`;
  if (file === null) return encrypted;
  const remark = isNew ? ' (new: keep a copy, it cannot be made again)' : '';
  return `${file}${remark}${encrypted === '' ? '' : `; also ${encrypted}`}`;
}
