import { NicheError, quote } from '../../errors.ts';
import { parseSecretKey } from '../../nix/keys.ts';
import type { Identity } from '../../secrets/recipient.ts';
import { secretKeySigner } from '../../signing/secret-key.ts';
import type { Signer } from '../../signing/signer.ts';
import type { ObjectReader } from '../../storage/bucket.ts';
import { openSecret, publicKeysOf, readSecret, signingDocument } from '../secret-documents.ts';

/**
 * Opens the signers whose keys are in `niche.signing.json`.
 *
 * @param publicKeys the cache's public keys. A key without one of these does not sign: a rotation is
 *   adding or retiring it
 * @param identities the publisher's identities
 * @returns null when there is no such document
 * @throws NicheError `wrong-key` when no key of the document is one of the cache's, and the codes of
 *   {@link openSecret}
 */
export async function openSigners(
  privateRoot: ObjectReader,
  publicKeys: readonly string[],
  identities: readonly Identity[],
): Promise<Signer[] | null> {
  const secret = await readSecret(privateRoot, signingDocument);
  if (!secret) return null;
  const { value } = await openSecret(secret, signingDocument, identities);
  const signers = value.secretKeys
    .map(secretKeySigner)
    .filter(({ publicKey }) => publicKeys.includes(publicKey));
  if (signers.length > 0) return signers;
  throw new NicheError(
    'wrong-key',
    `${secret.where} has no key of this cache: expected one for ${publicKeys.join(' or ')}, got ${publicKeysOf(value).join(', ') || 'none'}`,
  );
}

/**
 * Reads one secret key, `<key name>:<base64>`, from `niche.signing.json`.
 *
 * @param identities the publisher's identities
 * @throws NicheError `wrong-key` when there is no key of that name, and the codes of
 *   {@link openSecret}; no message contains a key
 */
export async function readSigningKey(
  privateRoot: ObjectReader,
  identities: readonly Identity[],
  keyName: string,
): Promise<string> {
  const missing = (where: string, what: string): NicheError =>
    new NicheError('wrong-key', `${where} ${what}`, {
      hint: 'put the key into it, encrypted for the publisher and for a recovery key',
    });
  const secret = await readSecret(privateRoot, signingDocument);
  if (!secret) throw missing(`${signingDocument.key} of ${privateRoot.url}`, 'is missing');
  const { value } = await openSecret(secret, signingDocument, identities);
  const key = value.secretKeys.find((each) => parseSecretKey(each).name === keyName);
  if (key === undefined) throw missing(secret.where, `has no key named ${quote(keyName)}`);
  return key;
}
