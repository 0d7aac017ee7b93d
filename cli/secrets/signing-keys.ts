import { mkdir, open, readFile } from 'node:fs/promises';
import path from 'node:path';

import type { OpenCache } from '../../core/cache/open.ts';
import { openSigners } from '../../core/cache/keys/signing-keys.ts';
import { NicheError, messageOf } from '../../core/errors.ts';
import { formatPublicKey, parseSecretKey } from '../../core/nix/keys.ts';
import { isErrno } from '../../core/util/errno.ts';
import { secretKeySigner } from '../../core/signing/secret-key.ts';
import type { Signer } from '../../core/signing/signer.ts';
import type { Context } from '../process/context.ts';
import { keyringOf } from './identities.ts';
import { homeOf, nonEmpty } from '../process/environment.ts';
import type { Environment } from '../process/environment.ts';

/** niche's folder in the user's configuration. */
function configFolder(env: Environment): string {
  return path.join(nonEmpty(env['XDG_CONFIG_HOME']) ?? path.join(homeOf(env), '.config'), 'niche');
}

/** Where the secret key called `keyName` lies unless the user says otherwise. */
export function defaultSecretKeyFile(env: Environment, keyName: string): string {
  return path.join(configFolder(env), 'keys', `${keyName}.secret`);
}

/**
 * Reads a secret key in Nix's own form, `<name>:<base64>`.
 *
 * @returns null when there is no such file
 * @throws NicheError `malformed-key`, or `storage-denied` when it cannot be read
 */
export async function readSecretKeyFile(file: string): Promise<string | null> {
  let text: string;
  try {
    text = (await readFile(file, 'utf8')).trim();
  } catch (cause) {
    if (isErrno(cause, 'ENOENT')) return null;
    throw new NicheError(
      'storage-denied',
      `cannot read the secret key in ${file}: ${messageOf(cause)}`,
      { cause },
    );
  }
  try {
    parseSecretKey(text);
  } catch (cause) {
    throw new NicheError('malformed-key', `${file} is not a secret key: ${messageOf(cause)}`, {
      cause,
    });
  }
  return text;
}

/**
 * Writes a new secret key, readable by this user alone. What is there already is never replaced.
 *
 * @throws NicheError `cache-exists` when the file is there, `storage-denied`
 */
export async function writeSecretKeyFile(file: string, secretKey: string): Promise<void> {
  try {
    await mkdir(path.dirname(file), { recursive: true, mode: 0o700 });
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
      `cannot write the secret key to ${file}: ${messageOf(cause)}`,
      { cause },
    );
  }
}

/**
 * What this machine signs the cache's paths with: the key in `file`, else in `NICHE_SECRET_KEY_FILE`,
 * else those in the user's configuration that the cache names, else those that the cache itself has,
 * encrypted, if this machine is one of those that may read them.
 *
 * @throws NicheError `wrong-key` when there is none, or it is not one of the cache's; what
 *   {@link openSigners} throws
 */
export async function findSigners(
  { config, private: root }: Pick<OpenCache, 'config' | 'private'>,
  file: string | undefined,
  context: Context,
): Promise<Signer[]> {
  const { publicKeys } = config;
  const named = file ?? nonEmpty(context.env['NICHE_SECRET_KEY_FILE']);
  const files =
    named === undefined
      ? publicKeys.map((key) => defaultSecretKeyFile(context.env, key.split(':')[0] ?? ''))
      : [named];
  const found = await readSecretKeys(files, publicKeys);
  if (found.length > 0) return found.map(secretKeySigner);
  if (named === undefined) {
    const { identities } = keyringOf(context);
    const signers = await openSigners(root, publicKeys, identities);
    if (signers) return signers;
  }
  throw new NicheError(
    'wrong-key',
    `there is no secret key to sign with: ${files.join(' and ')} ${files.length === 1 ? 'is' : 'are'} missing`,
    {
      hint: 'name the file with --secret-key-file, or use --no-publish where a `niche worker` publishes',
    },
  );
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
        `the secret key in ${candidate} is not this cache's: expected one for ${publicKeys.join(' or ')}, got one for ${publicKey}`,
      );
    }
    found.push(secretKey);
  }
  return found;
}
