import { createHash } from 'node:crypto';

import { NicheError } from '../../errors.ts';
import { maxSelfReferences } from '../../limits.ts';
import type { HashAlgorithm } from '../../nix/hash.ts';
import type { NarClaim } from './claim.ts';

/**
 * How the content address of a path that contains its own store hash was computed. Each occurrence is
 * hashed as zero bytes in all forms.
 * - `positions`: the offsets of all occurrences are hashed after the contents. Nix before 2.17, and
 *   from 2.35.
 * - `no-positions`: they are not. Nix 2.17 to 2.34 (NixOS/nix#15837).
 * - `unmarked`: they are, but the name of the path does not depend on the reference, unlike that of
 *   other self-referring paths. Nix before 2.16, for all kinds of address but `fixed:r:sha256`.
 */
export type SelfReferenceForm = 'positions' | 'no-positions' | 'unmarked';

export interface ModuloHash {
  /** @throws NicheError `too-large` beyond {@link maxSelfReferences} */
  update(chunk: Uint8Array): void;
  /** Returns the digest, and the one with positions if the store hash occurs. Call it once. */
  digests(): { readonly plain: Uint8Array; readonly withPositions: Uint8Array | null };
}

/** Creates a hash of contents modulo their own store hash (HashModuloSink in Nix's references.cc). */
export function createModuloHash(
  algorithm: Exclude<HashAlgorithm, 'blake3'>,
  { info, storePath }: NarClaim,
): ModuloHash {
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
    digests() {
      hash.update(held);
      const plain = hash.copy().digest();
      if (positions.length === 0) return { plain, withPositions: null };
      for (const position of positions) hash.update(`|${position}`);
      return { plain, withPositions: hash.digest() };
    },
  };
}
