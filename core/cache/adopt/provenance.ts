import { formatPublicKey } from '../../nix/keys.ts';
import type { PublicKey } from '../../nix/keys.ts';
import type { PathInfo } from '../../nix/path-info.ts';
import type { Provenance } from '../audit.ts';
import { isSignedBy } from '../signed-narinfo.ts';

/**
 * Returns what shows that a path is what its name promises. A hash of the contents shows only that they
 * arrived whole: anyone can compute one.
 *
 * @param trustedKeys the keys that the administrator trusts to sign paths
 * @returns null when nothing shows it. A content address counts only once it is verified
 */
export async function findProvenance(
  info: PathInfo,
  storeDir: string,
  trustedKeys: readonly PublicKey[],
): Promise<Provenance | null> {
  if (info.ca !== null) return { by: 'content-address' };
  for (const key of trustedKeys) {
    if (await isSignedBy(info, storeDir, [key])) {
      return { by: 'signature', publicKey: formatPublicKey(key) };
    }
  }
  return null;
}
