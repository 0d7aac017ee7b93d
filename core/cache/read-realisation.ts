import { isNicheError } from '../errors.ts';
import { maxRealisationBytes } from '../limits.ts';
import { verifyFingerprintAsync } from '../nix/keys.ts';
import type { PublicKey } from '../nix/keys.ts';
import { parseRealisationValue, storedFingerprint } from '../nix/realisation.ts';
import type { RealisationValue } from '../nix/realisation.ts';
import type { ObjectReader } from '../storage/bucket.ts';
import { readObjectWithInfo } from './objects.ts';

/** What a cache has under the key of a realisation. */
export type RealisationLookup =
  | { readonly kind: 'absent' }
  /** It is damaged, or no trusted key signed it: readers do not use it. */
  | { readonly kind: 'unusable'; readonly why: string; readonly etag: string }
  | {
      readonly kind: 'found';
      readonly value: RealisationValue;
      /** Those of its signatures that verify. */
      readonly signatures: readonly string[];
      readonly etag: string;
    };

/**
 * Reads a realisation and verifies its signatures.
 *
 * @throws NicheError `storage-…` when it cannot be read
 */
export async function readRealisation(
  cache: ObjectReader,
  key: string,
  {
    storeDir,
    publicKeys,
  }: { readonly storeDir: string; readonly publicKeys: readonly PublicKey[] },
): Promise<RealisationLookup> {
  let etag = '';
  try {
    const found = await readObjectWithInfo(cache, key, maxRealisationBytes);
    if (!found) return { kind: 'absent' };
    etag = found.info.etag;
    const value = parseRealisationValue(found.body.toString('utf8'), storeDir);
    const text = storedFingerprint(key, value, storeDir) ?? '';
    const signatures: string[] = [];
    for (const signature of value.signatures) {
      if (await verifyFingerprintAsync(text, signature, publicKeys)) signatures.push(signature);
    }
    if (signatures.length > 0) return { kind: 'found', value, signatures, etag };
    return { kind: 'unusable', why: 'it has no valid signature by a trusted key', etag };
  } catch (error) {
    if (!isNicheError(error, 'malformed-realisation', 'oversized')) throw error;
    // It was too large to be read whole, so its etag is not known.
    etag ||= (await cache.head(key))?.etag ?? '';
    return { kind: 'unusable', why: error.message, etag };
  }
}
