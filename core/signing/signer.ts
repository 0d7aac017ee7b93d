/**
 * Signs Nix fingerprints with one key. A narinfo carries the signature of every configured signer
 * that takes its fingerprint: that is how keys rotate.
 */
export interface Signer {
  /** The key's name, the part of a signature before the colon. */
  readonly keyName: string;
  /** `<key name>:<base64 of the 32-byte Ed25519 public key>`, as Nix's `trusted-public-keys`. */
  readonly publicKey: string;
  /** The longest fingerprint it signs, in bytes; unbounded when absent. */
  readonly maxBytes?: number;
  /** Where a key lies that this process does not hold, as a KMS names it; for the audit. */
  readonly keyId?: string;
  /** A pure Ed25519 signature over the fingerprint's UTF-8 bytes. */
  sign(fingerprint: string): Promise<Signed>;
}

export interface Signed {
  /** `<key name>:<base64>`. */
  readonly signature: string;
  /** By which the KMS's own log knows the request; for the audit. */
  readonly requestId?: string;
}
