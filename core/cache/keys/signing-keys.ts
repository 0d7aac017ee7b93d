import { NicheError, quote } from '../../errors.ts';
import { parseSecretKey } from '../../nix/keys.ts';
import type { Identity } from '../../secrets/recipient.ts';
import type { ObjectReader } from '../../storage/bucket.ts';
import { openSecret, readSecret, signingDocument } from './documents.ts';

/**
 * One secret key of `niche.signing.json`, `<key name>:<base64>`.
 *
 * @param identities the publisher's own
 * @throws NicheError `wrong-key` when there is none of that name, and what {@link openSecret} throws;
 *   no message holds a key
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
