import { createHash } from 'node:crypto';

import { NicheError } from '../../errors.ts';
import { maxSelfReferences } from '../../limits.ts';
import { formatContentAddress } from '../../nix/content-address.ts';
import type { VerifiableContentAddress } from '../../nix/content-address.ts';
import { formatHash } from '../../nix/hash.ts';
import type { NarFile, NarHandler } from '../../nix/nar-parser.ts';
import { computeCaPath } from '../../nix/store-path.ts';
import type { NarClaim } from './claim.ts';

/** The part of a {@link NarHandler} that regular files need. */
export type FileHandler = Required<Pick<NarHandler, 'regular' | 'contents'>>;

/**
 * Checks a claimed content address: that the contents hash to it, and that it yields this store path
 * with these references. That proves the references.
 */
export interface ContentAddressCheck {
  /**
   * Hashes the next bytes of the NAR, where the address needs them.
   *
   * @throws NicheError `too-large` for too many references to itself
   */
  write(chunk: Uint8Array): void;
  /** Receives the file in the NAR; null when the address hashes the NAR itself. */
  readonly file: FileHandler | null;
  /**
   * Ends the check.
   *
   * @param narDigest the SHA-256 of the whole NAR
   * @throws NicheError `ca-mismatch`
   */
  verify(narDigest: Uint8Array): void;
}

/** @param address the content address of `claim` */
export function createContentAddressCheck(
  claim: NarClaim,
  address: VerifiableContentAddress,
): ContentAddressCheck {
  const { info, storePath } = claim;
  const { name, storeDir } = storePath;
  const hasSelfReference = info.references.includes(info.path);
  const others = info.references.filter((reference) => reference !== info.path);
  const isFlat = address.method !== 'nar';
  const { algorithm } = address.hash;
  // The address of most paths added to a store is the NAR hash, which is computed anyway.
  const isNarHash = !isFlat && !hasSelfReference && algorithm === 'sha256';
  const hasher =
    !isFlat && hasSelfReference ? createModuloHash(algorithm, claim) : createHash(algorithm);
  const subject = `content address ${formatContentAddress(address)} of ${info.path}`;
  let flat: NarFile | null = null;

  function computePath(): string {
    try {
      return computeCaPath(address, name, others, hasSelfReference, storeDir);
    } catch (cause) {
      // Some kinds of address allow no references, or no self-reference.
      const message = `the ${subject} does not allow its references`;
      throw new NicheError('ca-mismatch', message, { cause });
    }
  }

  function mismatch(expected: string, got: string): NicheError {
    return new NicheError('ca-mismatch', `wrong ${subject}: expected ${expected}, got ${got}`);
  }

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
        throw mismatch('one regular file that is not executable', 'other contents');
      }
      const digest = isNarHash ? narDigest : new Uint8Array(hasher.digest());
      const actual = formatHash({ algorithm, digest }, 'base32');
      const expected = formatHash(address.hash, 'base32');
      if (actual !== expected) throw mismatch(`contents that hash to ${expected}`, actual);
      const path = computePath();
      if (path !== info.path) throw mismatch(`the store path ${path}`, info.path);
    },
  };
}

/**
 * Hashes a NAR that contains its own store hash: each occurrence counts as zero bytes, and the offsets
 * of all occurrences are hashed after the contents (HashModuloSink in Nix's references.cc).
 *
 * @throws NicheError `too-large` from `update`, beyond {@link maxSelfReferences}
 */
function createModuloHash(
  algorithm: string,
  { info, storePath }: NarClaim,
): { update(chunk: Uint8Array): void; digest(): Buffer } {
  const hash = createHash(algorithm);
  const needle = Buffer.from(storePath.hash, 'latin1');
  const positions: number[] = [];
  let held = Buffer.alloc(0);
  let heldAt = 0;

  const zero = (buffer: Buffer): void => {
    for (
      let at = buffer.indexOf(needle);
      at >= 0;
      at = buffer.indexOf(needle, at + needle.length)
    ) {
      if (positions.length === maxSelfReferences) {
        throw new NicheError(
          'too-large',
          `the NAR of ${info.path} contains its own store hash too often: expected at most ${maxSelfReferences} times`,
        );
      }
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
