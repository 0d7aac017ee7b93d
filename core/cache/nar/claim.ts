import { parseContentAddress } from '../../nix/content-address.ts';
import type { ContentAddress } from '../../nix/content-address.ts';
import { parseHash } from '../../nix/hash.ts';
import type { PathInfo } from '../../nix/path-info.ts';
import { parseStorePath, storeHash } from '../../nix/store-path.ts';
import type { StorePath } from '../../nix/store-path.ts';

/** A path info to check a NAR against, with the fields parsed that the check needs. */
export interface NarClaim {
  readonly info: PathInfo;
  readonly storePath: StorePath;
  /** The SHA-256 of the NAR. */
  readonly narDigest: Uint8Array;
  /** The store hash of each reference, in the order of `info.references`. */
  readonly referenceHashes: readonly string[];
  /** Null for an input-addressed path. */
  readonly contentAddress: ContentAddress | null;
}

/**
 * Parses a path info whose fields are in canonical form.
 *
 * @throws NicheError `unsupported-ca` for a content address of an unknown kind
 */
export function parseNarClaim(info: PathInfo, storeDir: string): NarClaim {
  return {
    info,
    storePath: parseStorePath(info.path, storeDir),
    narDigest: parseHash(info.narHash, 'sha256').digest,
    referenceHashes: info.references.map(storeHash),
    contentAddress: info.ca === null ? null : parseContentAddress(info.ca),
  };
}
