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
import type { CacheBuckets } from '../layout.ts';
import { readObjectWithInfo } from '../objects.ts';
import { signingDocument } from '../secret-documents.ts';

/**
 * Generates one more key for a cache: from then on all keys sign. If an earlier attempt stored the
 * secret key and failed to publish the public key, it is completed.
 *
 * @returns the public key
 * @throws NicheError `usage` when the name is taken; `not-a-cache`, `not-found`, `changed-meanwhile`;
 *   the codes of {@link openSecretForEdit}
 */
export async function rotateKey(
  buckets: CacheBuckets,
  name: string,
  keyring: Keyring,
): Promise<string> {
  const secret = await openSecretForEdit(buckets.private, signingDocument, keyring);
  const { secretKeys, version } = secret.value;
  const known = secretKeys.find((key) => parseSecretKey(key).name === name);
  const secretKey = known ?? formatSecretKey(generateSecretKey(name));
  const publicKey = formatPublicKey(parseSecretKey(secretKey).publicKey);
  if (known === undefined) {
    const text = rewriteSecret(secret, { version, secretKeys: [...secretKeys, secretKey] });
    await changePublicKeys(buckets.public, (keys) => {
      assertFree(name, keys);
      return keys;
    });
    await replaceSecret(buckets.private, signingDocument.key, text, secret.stored);
  }
  // The secret key is stored first: a public key without a signer would be useless.
  await changePublicKeys(buckets.public, (keys) => {
    assertFree(name, keys);
    return [...keys, publicKey];
  });
  return publicKey;
}

function assertFree(name: string, keys: readonly string[]): void {
  const taken = keys.find((each) => each.startsWith(`${name}:`));
  if (taken === undefined) return;
  throw new NicheError('usage', `the cache already has a key named ${name}: ${taken}`, {
    hint: 'choose another name with --key-name',
  });
}

/**
 * Removes a key from a cache: first from the public configuration, so that no reader is configured to
 * trust a key that no longer signs.
 *
 * @throws NicheError `not-a-cache`, `changed-meanwhile`; the codes of {@link openSecretForEdit} except
 *   `not-found`
 */
export async function retireKey(
  buckets: CacheBuckets,
  publicKey: string,
  keyring: Keyring,
): Promise<void> {
  const secret = await openSecretForEdit(buckets.private, signingDocument, keyring).catch(
    (error: unknown) => {
      // A cache whose keys are in a KMS has no signing document.
      if (error instanceof NicheError && error.code === 'not-found') return null;
      throw error;
    },
  );
  await changePublicKeys(buckets.public, (keys) => keys.filter((key) => key !== publicKey));
  if (!secret) return;
  const { secretKeys, version } = secret.value;
  const left = secretKeys.filter(
    (key) => formatPublicKey(parseSecretKey(key).publicKey) !== publicKey,
  );
  if (left.length === secretKeys.length) return;
  const text = rewriteSecret(secret, { version, secretKeys: left });
  await replaceSecret(buckets.private, signingDocument.key, text, secret.stored);
}

/** @throws NicheError `not-a-cache`, `changed-meanwhile` */
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
