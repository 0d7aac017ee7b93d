import { formatPublicKey, parseSecretKey, signFingerprint } from '../nix/keys.ts';
import type { Signer } from './signer.ts';

/**
 * Returns a signer that holds its secret key in memory.
 *
 * @param secretKey in Nix's format, `<key name>:<base64 of 64 bytes>`
 * @throws NicheError `malformed-key`, without the key in its message
 */
export function secretKeySigner(secretKey: string): Signer {
  const parsed = parseSecretKey(secretKey);
  return {
    keyName: parsed.name,
    publicKey: formatPublicKey(parsed.publicKey),
    sign: (fingerprint) => Promise.resolve({ signature: signFingerprint(fingerprint, parsed) }),
  };
}
