import { NicheError } from '../errors.ts';
import { parsePublicKey, verifyFingerprintAsync } from '../nix/keys.ts';
import type { Signer } from '../signing/signer.ts';
import { auditedSigner } from './audit.ts';
import type { AuditedSigner } from './audit.ts';

/** The signatures of one text, and the signer of each. */
export interface SignedText {
  readonly signatures: readonly string[];
  readonly signers: readonly AuditedSigner[];
}

/**
 * Signs a text with each key whose signer accepts its length.
 *
 * @throws NicheError `wrong-key` when a signature does not verify with the cache's keys; the errors of
 *   signers
 */
export type SignText = (text: string) => Promise<SignedText>;

export function createTextSigner(
  signers: readonly Signer[],
  publicKeys: readonly string[],
): SignText {
  const parsedKeys = publicKeys.map(parsePublicKey);
  return async (text) => {
    const signatures: string[] = [];
    const audited: AuditedSigner[] = [];
    for (const signer of usableSigners(signers, text)) {
      const { signature, requestId } = await signer.sign(text);
      if (!(await verifyFingerprintAsync(text, signature, parsedKeys))) {
        throw new NicheError(
          'wrong-key',
          `the signature of the key ${signer.keyName} does not verify: expected one of the cache's public keys ${publicKeys.join(' ')}, got a signature for ${signer.publicKey}`,
        );
      }
      signatures.push(signature);
      audited.push(auditedSigner(signer, requestId));
    }
    return { signatures, signers: audited };
  };
}

/** Returns the signers whose keys accept a text of this length. */
export function usableSigners(signers: readonly Signer[], text: string): Signer[] {
  const bytes = Buffer.byteLength(text);
  return signers.filter(({ maxBytes = Infinity }) => bytes <= maxBytes);
}
