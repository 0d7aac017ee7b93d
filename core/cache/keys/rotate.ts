import { NicheError } from '../../errors.ts';
import {
  formatPublicKey,
  formatSecretKey,
  generateSecretKey,
  parseSecretKey,
} from '../../nix/keys.ts';
import type { Keyring } from '../../secrets/recipient.ts';
import type { Bucket } from '../../storage/bucket.ts';
import { formatConfig, parseConfig } from '../config.ts';
import type { CacheConfig } from '../config.ts';
import { openSecretForEdit, replaceSecret, rewriteSecret } from './edit.ts';
import { configKey } from '../layout.ts';
import { readObjectWithInfo } from '../objects.ts';
import { signingDocument } from '../secret-documents.ts';

export interface CacheBuckets {
  readonly public: Bucket;
  readonly private: Bucket;
}

/**
 * Makes a key beside those that the cache has: from then on all of them sign. One that an earlier
 * attempt made and did not announce is taken up.
 *
 * @returns its public key
 * @throws NicheError `usage` when the name is taken, `changed-meanwhile`
 */
export async function rotateKey(
  roots: CacheBuckets,
  name: string,
  keyring: Keyring,
): Promise<string> {
  const secret = await openSecretForEdit(roots.private, signingDocument, keyring);
  const { secretKeys, version } = secret.value;
  const known = secretKeys.find((key) => parseSecretKey(key).name === name);
  const secretKey = known ?? formatSecretKey(generateSecretKey(name));
  const publicKey = formatPublicKey(parseSecretKey(secretKey).publicKey);
  const key = { publicKey, name };
  if (known === undefined) {
    const text = rewriteSecret(secret, { version, secretKeys: [...secretKeys, secretKey] });
    await changePublicKeys(roots.public, (keys) => {
      assertFree(key, keys);
      return keys;
    });
    await replaceSecret(roots.private, signingDocument.key, text, secret.stored);
  }
  // The secret first: a public key that nothing can sign for would be of no use to anyone.
  await changePublicKeys(roots.public, (keys) => {
    assertFree(key, keys);
    return [...keys, publicKey];
  });
  return publicKey;
}

function assertFree(
  { publicKey, name }: { publicKey: string; name: string },
  keys: readonly string[],
): void {
  if (!keys.some((each) => each.startsWith(`${name}:`))) return;
  throw new NicheError('usage', `the cache has a key called ${name} already: ${publicKey}`, {
    hint: 'name another with --key-name',
  });
}

/**
 * Takes a key out of the cache: from the public configuration first, so that nobody is told to trust
 * a key that is gone.
 */
export async function retireKey(
  roots: CacheBuckets,
  publicKey: string,
  keyring: Keyring,
): Promise<void> {
  const secret = await openSecretForEdit(roots.private, signingDocument, keyring).catch(
    (error: unknown) => {
      // A key in a KMS has no document.
      if (error instanceof NicheError && error.code === 'not-found') return null;
      throw error;
    },
  );
  await changePublicKeys(roots.public, (keys) => keys.filter((key) => key !== publicKey));
  if (!secret) return;
  const { secretKeys, version } = secret.value;
  const left = secretKeys.filter(
    (key) => formatPublicKey(parseSecretKey(key).publicKey) !== publicKey,
  );
  if (left.length === secretKeys.length) return;
  const text = rewriteSecret(secret, { version, secretKeys: left });
  await replaceSecret(roots.private, signingDocument.key, text, secret.stored);
}

/** @throws NicheError `changed-meanwhile` */
async function changePublicKeys(
  root: Bucket,
  change: (keys: readonly string[]) => readonly string[],
): Promise<CacheConfig> {
  const where = `${configKey} of ${root.url}`;
  const found = await readObjectWithInfo(root, configKey);
  if (!found) throw new NicheError('not-a-cache', `${where} is missing`);
  const config = parseConfig(found.body.toString('utf8'), where);
  const changed = { ...config, publicKeys: [...change(config.publicKeys)] };
  if (changed.publicKeys.join() === config.publicKeys.join()) return config;
  const stored = { etag: found.info.etag, where };
  await replaceSecret(root, configKey, formatConfig(changed), stored);
  return changed;
}
