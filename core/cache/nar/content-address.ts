import { createHash } from 'node:crypto';

import { NicheError } from '../../errors.ts';
import { parseContentAddress } from '../../nix/content-address.ts';
import type { ContentAddress } from '../../nix/content-address.ts';
import { formatHash } from '../../nix/hash.ts';
import type { NarFile, NarHandler } from '../../nix/nar-parser.ts';
import type { PathInfo } from '../../nix/path-info.ts';
import { computeCaPath, parseStorePath } from '../../nix/store-path.ts';

/**
 * Checks a claimed content address: that the contents hash to it, and that it yields this store path
 * with these references. That proves the references.
 */
export interface ContentAddressCheck {
  /** Hashes the next bytes of the NAR, where the address needs them. */
  write(chunk: Uint8Array): void;
  /** Receives the file in the NAR; null when the address hashes the NAR itself. */
  readonly file: Required<Pick<NarHandler, 'regular' | 'contents'>> | null;
  /**
   * Ends the check.
   *
   * @param narDigest the SHA-256 of the whole NAR
   * @throws NicheError `ca-mismatch`
   */
  verify(narDigest: Uint8Array): void;
}

/**
 * @param claim a path info whose `ca` is not null
 * @throws NicheError `unsupported-ca` for an unknown kind of address
 */
export function createContentAddressCheck(
  claim: PathInfo & { readonly ca: string },
  storeDir: string,
): ContentAddressCheck {
  const address = parseContentAddress(claim.ca);
  const { name, hash: selfHash } = parseStorePath(claim.path, storeDir);
  const hasSelfReference = claim.references.includes(claim.path);
  const others = claim.references.filter((reference) => reference !== claim.path);
  const isFlat = address.method !== 'nar';
  const { algorithm } = address.hash;
  // The address of most paths added to a store is the NAR hash, which is computed anyway.
  const isNarHash = !isFlat && !hasSelfReference && algorithm === 'sha256';
  const hasher =
    !isFlat && hasSelfReference ? createModuloHash(algorithm, selfHash) : createHash(algorithm);
  let flat: NarFile | null = null;

  return {
    write(chunk) {
      if (!isFlat && !isNarHash) hasher.update(chunk);
    },
    file: isFlat
      ? {
          regular(entryName, file) {
            if (entryName.length === 0) flat = file;
          },
          contents(piece) {
            if (flat) hasher.update(piece);
          },
        }
      : null,
    verify(narDigest) {
      if (isFlat && (flat === null || flat.executable)) {
        throw mismatch(claim, 'one regular file that is not executable', 'other contents');
      }
      const digest = isNarHash ? narDigest : new Uint8Array(hasher.digest());
      const actual = formatHash({ algorithm, digest }, 'base32');
      const expected = formatHash(address.hash, 'base32');
      if (actual !== expected) throw mismatch(claim, `contents that hash to ${expected}`, actual);
      const path = pathOf(address, name, others, hasSelfReference, storeDir, claim);
      if (path !== claim.path) throw mismatch(claim, `the store path ${path}`, claim.path);
    },
  };
}

function pathOf(
  address: ContentAddress,
  name: string,
  references: readonly string[],
  hasSelfReference: boolean,
  storeDir: string,
  claim: PathInfo,
): string {
  try {
    return computeCaPath(address, name, references, hasSelfReference, storeDir);
  } catch (cause) {
    // Some kinds of address allow no references, or no self-reference.
    throw new NicheError(
      'ca-mismatch',
      `the content address ${claim.ca ?? ''} of ${claim.path} does not allow its references`,
      { cause },
    );
  }
}

function mismatch(claim: PathInfo, expected: string, got: string): NicheError {
  return new NicheError(
    'ca-mismatch',
    `wrong content address ${claim.ca ?? ''} of ${claim.path}: expected ${expected}, got ${got}`,
  );
}

/**
 * Hashes a NAR that contains its own store hash: each occurrence counts as zero bytes, and the offsets
 * of all occurrences are hashed after the contents (HashModuloSink in Nix's references.cc).
 */
function createModuloHash(
  algorithm: string,
  selfHash: string,
): { update(chunk: Uint8Array): void; digest(): Buffer } {
  const hash = createHash(algorithm);
  const needle = Buffer.from(selfHash, 'latin1');
  const positions: number[] = [];
  let held = Buffer.alloc(0);
  let heldAt = 0;

  const zero = (buffer: Buffer): void => {
    for (
      let at = buffer.indexOf(needle);
      at >= 0;
      at = buffer.indexOf(needle, at + needle.length)
    ) {
      positions.push(heldAt + at);
      buffer.fill(0, at, at + needle.length);
    }
  };

  return {
    update(chunk) {
      const buffer = Buffer.concat([held, chunk]);
      zero(buffer);
      const complete = Math.max(0, buffer.length - (needle.length - 1));
      hash.update(buffer.subarray(0, complete));
      held = buffer.subarray(complete);
      heldAt += complete;
    },
    digest() {
      hash.update(held);
      for (const position of positions) hash.update(`|${position}`);
      return hash.digest();
    },
  };
}
