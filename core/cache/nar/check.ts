import { createHash } from 'node:crypto';

import { NicheError } from '../../errors.ts';
import { coversReferences } from '../../nix/content-address.ts';
import { formatSha256 } from '../../nix/hash.ts';
import { createListingWriter } from '../../nix/listing-writer.ts';
import { createNarParser } from '../../nix/nar-parser.ts';
import type { NarHandler } from '../../nix/nar-parser.ts';
import { createReferenceScanner } from '../../nix/references.ts';
import type { UnclaimedPaths } from '../../nix/references.ts';
import type { NarClaim } from './claim.ts';
import { createContentAddressCheck } from './content-address.ts';
import type { SelfReferenceForm } from './modulo-hash.ts';

/** What the check of a NAR finds, besides that the claim is true. */
export interface NarFacts {
  /** The `.ls` file; null when it is not wanted or too large, or a name or target is not UTF-8. */
  readonly listing: Uint8Array | null;
  /** Store paths that the contents contain and the client did not claim as references. */
  readonly unclaimed: UnclaimedPaths;
  /** How the content address covers references to itself; null when the contents have none. */
  readonly selfReferences: SelfReferenceForm | null;
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
 * `nar-hash-mismatch`, `unproven-reference`, `unclaimed-reference`, `ca-mismatch`, `too-large`.
 */
export async function createNarCheck(
  claim: NarClaim,
  options: {
    readonly unclaimed: 'warn' | 'reject';
    /** Whether to write the `.ls` file. */
    readonly listing: boolean;
  },
): Promise<NarCheck> {
  const { info, storePath, contentAddress, referenceHashes } = claim;
  const hash = createHash('sha256');
  // The name of a text-addressed path proves its references. A .drv contains its outputs, too.
  const scanner =
    contentAddress?.method === 'text'
      ? null
      : createReferenceScanner({ storeDir: storePath.storeDir, candidates: referenceHashes });
  const listing = options.listing ? createListingWriter() : null;
  const lister: NarHandler = listing ?? {};
  const address = contentAddress && (await createContentAddressCheck(claim, contentAddress));
  const parser = createNarParser(address ? combineHandlers(lister, address.handler) : lister);
  let size = 0;
  let selfReferences: SelfReferenceForm | null = null;

  /** @returns false when the NAR is larger than claimed */
  function write(chunk: Uint8Array): boolean {
    size += chunk.length;
    if (size > info.narSize) return false;
    parser.write(chunk);
    hash.update(chunk);
    scanner?.write(chunk);
    address?.write(chunk);
    return true;
  }

  function unclaimedPaths(): UnclaimedPaths {
    return scanner?.unclaimed() ?? { count: 0, first: [] };
  }

  function verify(): void {
    if (size !== info.narSize) {
      throw new NicheError(
        'nar-size-mismatch',
        `wrong size of the NAR of ${info.path}: expected ${info.narSize} bytes, got ${size}`,
      );
    }
    parser.end();
    const narDigest = hash.digest();
    if (!narDigest.equals(claim.narDigest)) {
      throw new NicheError(
        'nar-hash-mismatch',
        `wrong hash of the NAR of ${info.path}: expected ${info.narHash}, got ${formatSha256(narDigest)}`,
      );
    }
    if (address) selfReferences = address.verify(narDigest);
    const isProven = contentAddress !== null && coversReferences(contentAddress);
    if (scanner && !isProven) verifyReferences(claim, scanner.found());
    const { count, first } = unclaimedPaths();
    if (count > 0 && options.unclaimed === 'reject') {
      throw new NicheError(
        'unclaimed-reference',
        `the NAR of ${info.path} contains ${count} store paths that it does not claim as references: ${first.join(', ')}`,
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
    facts: () => ({
      listing: listing?.listing() ?? null,
      unclaimed: unclaimedPaths(),
      selfReferences,
    }),
  };
}

/** Returns a handler that passes everything to both. */
function combineHandlers(first: NarHandler, second: NarHandler): NarHandler {
  return {
    directory(name) {
      first.directory?.(name);
      second.directory?.(name);
    },
    leave() {
      first.leave?.();
      second.leave?.();
    },
    regular(name, file) {
      first.regular?.(name, file);
      second.regular?.(name, file);
    },
    contents(piece) {
      first.contents?.(piece);
      second.contents?.(piece);
    },
    symlink(name, target) {
      first.symlink?.(name, target);
      second.symlink?.(name, target);
    },
  };
}

function verifyReferences({ info, referenceHashes }: NarClaim, found: ReadonlySet<string>): void {
  const unproven = info.references.filter((_, index) => !found.has(referenceHashes[index] ?? ''));
  if (unproven.length === 0) return;
  const named = unproven.slice(0, 5);
  throw new NicheError(
    'unproven-reference',
    `the NAR of ${info.path} does not contain ${unproven.length} of its ${info.references.length} claimed references: ${named.join(', ')}${unproven.length > named.length ? ', …' : ''}`,
  );
}
