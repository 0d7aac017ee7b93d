import { open, readFile } from 'node:fs/promises';
import path from 'node:path';

import type { OpenCache } from '../../core/cache/open.ts';
import { openSigners } from '../../core/cache/keys/signing-keys.ts';
import { NicheError, isNicheError, messageOf, quote } from '../../core/errors.ts';
import { formatPublicKey, parseSecretKey } from '../../core/nix/keys.ts';
import { isErrno } from '../../core/util/errno.ts';
import { makeFolders } from '../../core/util/folders.ts';
import { openAwsKms } from '../../core/kms/aws.ts';
import { openGoogleKms } from '../../core/kms/google.ts';
import { kmsSigner } from '../../core/signing/kms.ts';
import { secretKeySigner } from '../../core/signing/secret-key.ts';
import type { Signer } from '../../core/signing/signer.ts';
import { findPublicKey, formatSignerSpec } from '../../core/signing/signer-spec.ts';
import type { SignerSpec } from '../../core/signing/signer-spec.ts';
import type { Context } from '../process/context.ts';
import { keyringOf } from './identities.ts';
import { homeOf, nonEmpty } from '../process/environment.ts';
import type { Environment } from '../process/environment.ts';

/** Returns the folder of niche in the user's configuration. */
function configFolder(env: Environment): string {
  return path.join(nonEmpty(env['XDG_CONFIG_HOME']) ?? path.join(homeOf(env), '.config'), 'niche');
}

/** Returns the default file of the secret key `keyName`. */
export function defaultSecretKeyFile(env: Environment, keyName: string): string {
  return path.join(configFolder(env), 'keys', `${keyName}.secret`);
}

/**
 * Reads a secret key in Nix's format, `<name>:<base64>`.
 *
 * @returns null when there is no such file
 * @throws NicheError `malformed-key`, or `storage-denied` when it cannot be read
 */
export async function readSecretKeyFile(file: string): Promise<string | null> {
  let text: string;
  try {
    text = (await readFile(file, 'utf8')).trim();
  } catch (cause) {
    if (isErrno(cause, 'ENOENT', 'ENOTDIR')) return null;
    throw new NicheError(
      'storage-denied',
      `cannot read the secret key in ${quote(file)}: ${messageOf(cause)}`,
      { cause },
    );
  }
  try {
    parseSecretKey(text);
  } catch (cause) {
    throw new NicheError(
      'malformed-key',
      `invalid secret key in ${quote(file)}: ${messageOf(cause)}`,
      {
        cause,
      },
    );
  }
  return text;
}

/**
 * Writes a new secret key that only this user can read. It never replaces a file.
 *
 * @throws NicheError `storage-denied`, with the cause `EEXIST` when the file exists
 */
export async function writeSecretKeyFile(file: string, secretKey: string): Promise<void> {
  try {
    makeFolders(path.dirname(file), 0o700);
    const handle = await open(file, 'wx', 0o600);
    try {
      await handle.writeFile(`${secretKey}\n`);
      await handle.sync();
    } finally {
      await handle.close();
    }
  } catch (cause) {
    throw new NicheError(
      'storage-denied',
      `cannot write the secret key to ${quote(file)}: ${messageOf(cause)}`,
      { cause },
    );
  }
}

/**
 * Returns the signers for the cache's paths. It takes the key in `file`, else in
 * `NICHE_SECRET_KEY_FILE`, else the cache's keys in the user's configuration, else the encrypted keys
 * in the cache if this machine can decrypt them. A key in a KMS comes first, and suffices.
 *
 * @param kms a key in a KMS that signs too
 * @throws NicheError `wrong-key` when there is no key, or it is not a key of the cache; `malformed-key`,
 *   `storage-denied` for a key file; the codes of {@link openSigners}
 */
export async function findSigners(
  { config, private: root }: Pick<OpenCache, 'config' | 'private'>,
  file: string | undefined,
  context: Context,
  kms?: SignerSpec,
): Promise<Signer[]> {
  const { publicKeys } = config;
  if (kms) {
    const others = await findSigners({ config, private: root }, file, context).catch(
      (error: unknown) => {
        // Only fingerprints that are too long for the KMS need another key.
        if (isNicheError(error, 'wrong-key') && file === undefined) return [];
        throw error;
      },
    );
    return [openKmsSigner(kms, publicKeys, context), ...others];
  }
  const given = file ?? nonEmpty(context.env['NICHE_SECRET_KEY_FILE']);
  const files =
    given === undefined
      ? publicKeys.map((key) => defaultSecretKeyFile(context.env, key.split(':')[0] ?? ''))
      : [given];
  const found = await readSecretKeys(files, publicKeys);
  if (found.length > 0) return found.map(secretKeySigner);
  if (given === undefined) {
    const { identities } = keyringOf(context);
    const signers = await openSigners(root, publicKeys, identities);
    if (signers) return signers;
  }
  throw new NicheError(
    'wrong-key',
    `no signing key found: ${files.map(quote).join(' and ')} ${files.length === 1 ? 'is' : 'are'} missing`,
    {
      hint: 'pass --secret-key-file FILE, or upload with --no-publish',
    },
  );
}

/**
 * Opens a signer whose key is in a KMS.
 *
 * @throws NicheError `usage` for a key outside a KMS; `wrong-key` if the cache has no key for it
 */
export function openKmsSigner(
  spec: SignerSpec,
  publicKeys: readonly string[],
  { env }: Context,
): Signer {
  if (spec.kind === 'secret-key') {
    throw new NicheError(
      'usage',
      `invalid signer ${quote(formatSignerSpec(spec))}: expected a key of a KMS`,
    );
  }
  const endpoint = nonEmpty(env['NICHE_KMS_ENDPOINT']);
  const kms = spec.kind === 'aws-kms' ? openAwsKms() : openGoogleKms({ endpoint });
  return kmsSigner(kms, spec.key, findPublicKey(spec, publicKeys));
}

async function readSecretKeys(
  files: readonly string[],
  publicKeys: readonly string[],
): Promise<string[]> {
  const found: string[] = [];
  for (const candidate of files) {
    const secretKey = await readSecretKeyFile(candidate);
    if (secretKey === null) continue;
    const publicKey = formatPublicKey(parseSecretKey(secretKey).publicKey);
    if (!publicKeys.includes(publicKey)) {
      throw new NicheError(
        'wrong-key',
        `wrong secret key in ${quote(candidate)}: expected one for ${publicKeys.map(quote).join(' or ')}, got one for ${quote(publicKey)}`,
      );
    }
    found.push(secretKey);
  }
  return found;
}
