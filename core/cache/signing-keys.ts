import { NicheError, quote } from '../errors.ts';
import { maxDocumentBytes } from '../limits.ts';
import { decryptDocument } from '../secrets/document.ts';
import type { SecretMap } from '../secrets/encrypted-tree.ts';
import type { Identity } from '../secrets/recipient.ts';
import type { Bucket } from '../storage/bucket.ts';
import { signingKey } from './layout.ts';
import { readText } from './objects.ts';

/**
 * What `niche.signing.json` holds once it is decrypted: the cache's secret keys in Nix's own form, by
 * their names. Its recipients are the publisher's KMS key and recovery keys, never a client.
 *
 * @param keys as {@link readSigningKey} returns them
 */
export function signingTree(keys: ReadonlyMap<string, string>): SecretMap {
  return new Map([['keys', new Map(keys)]]);
}

/**
 * A secret key of the cache, `<key name>:<base64>`.
 *
 * @param bucket the private root
 * @throws NicheError `wrong-key` when there is none of that name, and what {@link decryptDocument}
 *   throws; no message holds a key
 */
export async function readSigningKey(
  bucket: Bucket,
  identities: readonly Identity[],
  keyName: string,
): Promise<string> {
  const where = `${signingKey} of ${bucket.url}`;
  const missing = (what: string): NicheError =>
    new NicheError('wrong-key', `${where} ${what}`, {
      hint: 'put the key into it, for the publisher and a recovery key, with niche key or sops',
    });
  const text = await readText(bucket, signingKey, maxDocumentBytes);
  if (text === null) throw missing('is missing');
  const { tree } = await decryptDocument(text, identities, where);
  const keys = tree.get('keys');
  const key = keys instanceof Map ? (keys as SecretMap).get(keyName) : undefined;
  if (typeof key !== 'string') throw missing(`has no key named ${quote(keyName)}`);
  return key.trim();
}
