import { NicheError } from '../../errors.ts';
import type { Identity } from '../../secrets/recipient.ts';
import { secretKeySigner } from '../../signing/secret-key.ts';
import type { Signer } from '../../signing/signer.ts';
import type { ObjectReader } from '../../storage/bucket.ts';
import { openSecret, publicKeysOf, readSecret, signingDocument } from './documents.ts';

/**
 * The signers whose keys lie, encrypted, in a cache's private root.
 *
 * @param publicKeys the cache's; a key that is none of them does not sign: it is on its way in or out
 * @param identities the publisher's own
 * @returns null when there is no such document
 * @throws NicheError `wrong-key` when none of its keys is the cache's, and what {@link openSecret} throws
 */
export async function openSigningSecret(
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
