/**
 * Signs Nix fingerprints with one key. A narinfo carries a signature of each configured signer that
 * can sign its fingerprint, so that keys can be rotated.
 */
export interface Signer {
  /** The key's name, the part of a signature before the colon. */
  readonly keyName: string;
  /** `<key name>:<base64 of the 32-byte Ed25519 public key>`, as in Nix's `trusted-public-keys`. */
  readonly publicKey: string;
  /** The longest fingerprint that it signs, in bytes. @default no limit */
  readonly maxBytes?: number;
  /** The key in its KMS, for the audit log; absent for a key in memory. */
  readonly keyId?: string;
  /**
   * Returns a pure Ed25519 signature (RFC 8032) of the fingerprint's UTF-8 bytes.
   *
   * @throws NicheError `signer-denied`, `signer-unavailable`, `wrong-key`
   */
  sign(fingerprint: string): Promise<Signed>;
}

export interface Signed {
  /** `<key name>:<base64>`. */
  readonly signature: string;
  /** The id of the request in the KMS's own log, for the audit log. */
  readonly requestId?: string;
}

/**
 * Returns a signer that `open` opens before the first signature.
 *
 * @param publicKey the signer's, `<key name>:<base64>`
 */
export function lazySigner(publicKey: string, open: () => Promise<Signer>): Signer {
  let opened: Promise<Signer> | undefined;
  return {
    keyName: publicKey.slice(0, publicKey.indexOf(':')),
    publicKey,
    async sign(fingerprint) {
      opened ??= open();
      // The next signature must try again after a failure.
      opened.catch(() => (opened = undefined));
      return (await opened).sign(fingerprint);
    },
  };
}
