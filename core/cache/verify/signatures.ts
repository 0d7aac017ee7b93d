import { fingerprint } from '../../nix/fingerprint.ts';
import { parsePublicKey, parseSignature, verifyFingerprint } from '../../nix/keys.ts';
import type { PathInfo } from '../../nix/path-info.ts';
import type { Upstreams } from '../upstreams.ts';

/**
 * `cache`, `upstream`, `kept`: verifies under a key of the cache, of an upstream, or of
 * `keepSignatures`. `bad`: malformed, or has the name of a cache's key and does not verify. `unknown`:
 * made with an unknown key.
 */
export type SignatureVerdict = 'cache' | 'upstream' | 'kept' | 'bad' | 'unknown';

export interface CheckedSignature {
  /** `<key name>:<base64>`, or the malformed text. */
  readonly signature: string;
  /** Empty for a malformed signature. */
  readonly keyName: string;
  readonly verdict: SignatureVerdict;
}

/** Determines for each signature of a path which key made it. */
export function checkSignatures(
  info: PathInfo,
  options: {
    /** The cache's public keys, each `<key name>:<base64>`. */
    readonly publicKeys: readonly string[];
    readonly upstreams: Pick<Upstreams, 'verifiedSignatures'>;
    /** Other keys whose signatures the cache keeps. @default none */
    readonly keepSignatures?: readonly string[] | undefined;
    readonly storeDir: string;
  },
): CheckedSignature[] {
  const keys = options.publicKeys.map(parsePublicKey);
  const names = new Set(keys.map(({ name }) => name));
  const text = fingerprint(info, options.storeDir);
  const keptKeys = (options.keepSignatures ?? []).map(parsePublicKey);
  const byUpstream = new Set(options.upstreams.verifiedSignatures(info));
  const verdictOf = (signature: string, keyName: string): SignatureVerdict => {
    if (verifyFingerprint(text, signature, keys)) return 'cache';
    if (byUpstream.has(signature)) return 'upstream';
    if (verifyFingerprint(text, signature, keptKeys)) return 'kept';
    return keyName === '' || names.has(keyName) ? 'bad' : 'unknown';
  };
  return info.signatures.map((signature) => {
    const keyName = keyNameOf(signature);
    return { signature, keyName, verdict: verdictOf(signature, keyName) };
  });
}

function keyNameOf(signature: string): string {
  try {
    return parseSignature(signature).name;
  } catch {
    return '';
  }
}
