import { createHash } from 'node:crypto';

import { NicheError } from '../../errors.ts';
import { formatSha256 } from '../../nix/hash.ts';
import { createListingBuilder } from '../../nix/listing.ts';
import type { NarListing } from '../../nix/listing.ts';
import { createNarParser } from '../../nix/nar-parser.ts';
import type { PathInfo } from '../../nix/path-info.ts';
import { createReferenceScanner } from '../../nix/references.ts';
import { storeHash } from '../../nix/store-path.ts';
import { createContentAddressCheck } from './content-address.ts';

/** What the check of a NAR finds, besides that the claim is true. */
export interface NarFacts {
  /** Null when the NAR has too many entries for a listing, or names that are not UTF-8. */
  readonly listing: NarListing | null;
  /** Store paths that the contents contain and the client did not claim as references. */
  readonly unclaimed: { readonly count: number; readonly first: readonly string[] };
}

/** Checks a NAR against a client's claim while its bytes pass through. */
export interface NarCheck {
  /** Yields the chunks of `source`. Throws on the first mismatch, at the latest after the last chunk. */
  checkStream(source: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array>;
  /** Checks a whole NAR. Throws like `checkStream`. */
  checkWhole(nar: Uint8Array): void;
  /** Returns the findings. Call it after the whole NAR was checked. */
  facts(): NarFacts;
}

/**
 * Creates a check of one NAR. Its errors are rejections: `malformed-nar`, `nar-size-mismatch`,
 * `nar-hash-mismatch`, `unproven-reference`, `unclaimed-reference`, `ca-mismatch`, `unsupported-ca`.
 */
export function createNarCheck(
  claim: PathInfo,
  options: { readonly storeDir: string; readonly unclaimed: 'warn' | 'reject' },
): NarCheck {
  const { storeDir } = options;
  const hash = createHash('sha256');
  const scanner = createReferenceScanner({ storeDir, candidates: claim.references.map(storeHash) });
  const listing = createListingBuilder();
  const ca =
    claim.ca === null ? null : createContentAddressCheck({ ...claim, ca: claim.ca }, storeDir);
  const file = ca?.file;
  const parser = createNarParser(
    file
      ? {
          ...listing,
          regular(name, found) {
            listing.regular?.(name, found);
            file.regular(name, found);
          },
          contents: file.contents,
        }
      : listing,
  );
  let size = 0;

  /** @returns false when the NAR is larger than claimed */
  function write(chunk: Uint8Array): boolean {
    size += chunk.length;
    if (size > claim.narSize) return false;
    parser.write(chunk);
    hash.update(chunk);
    scanner.write(chunk);
    ca?.write(chunk);
    return true;
  }

  function verify(): void {
    if (size !== claim.narSize) {
      throw new NicheError(
        'nar-size-mismatch',
        `wrong size of the NAR of ${claim.path}: expected ${claim.narSize} bytes, got ${size}`,
      );
    }
    parser.end();
    const narDigest = hash.digest();
    const narHash = formatSha256(narDigest);
    if (narHash !== claim.narHash) {
      throw new NicheError(
        'nar-hash-mismatch',
        `wrong hash of the NAR of ${claim.path}: expected ${claim.narHash}, got ${narHash}`,
      );
    }
    if (ca) ca.verify(narDigest);
    else verifyReferences(claim, scanner.found());
    const { count, first } = scanner.unclaimed();
    if (count > 0 && options.unclaimed === 'reject') {
      throw new NicheError(
        'unclaimed-reference',
        `the NAR of ${claim.path} contains ${count} store paths that it does not claim as references: ${first.join(', ')}`,
      );
    }
  }

  return {
    async *checkStream(source) {
      for await (const chunk of source) {
        if (!write(chunk)) break;
        yield chunk;
      }
      verify();
    },
    checkWhole(nar) {
      write(nar);
      verify();
    },
    facts: () => ({ listing: listing.listing() ?? null, unclaimed: scanner.unclaimed() }),
  };
}

function verifyReferences(claim: PathInfo, found: ReadonlySet<string>): void {
  const unproven = claim.references.filter((reference) => !found.has(storeHash(reference)));
  if (unproven.length === 0) return;
  const named = unproven.slice(0, 5);
  throw new NicheError(
    'unproven-reference',
    `the NAR of ${claim.path} does not contain ${unproven.length} of its ${claim.references.length} claimed references: ${named.join(', ')}${unproven.length > named.length ? ', …' : ''}`,
  );
}
