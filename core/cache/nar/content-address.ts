import { NicheError } from '../../errors.ts';
import { coversReferences, formatContentAddress } from '../../nix/content-address.ts';
import type { ContentAddress } from '../../nix/content-address.ts';
import { createDigester } from '../../nix/digest.ts';
import { createGitHasher } from '../../nix/git-hash.ts';
import type { GitHasher } from '../../nix/git-hash.ts';
import { formatHash } from '../../nix/hash.ts';
import type { NarHandler } from '../../nix/nar-parser.ts';
import { computeCaPath } from '../../nix/store-path.ts';
import type { NarClaim } from './claim.ts';
import { createModuloHash } from './modulo-hash.ts';
import type { ModuloHash, SelfReferenceForm } from './modulo-hash.ts';

/**
 * Checks a claimed content address: that the contents hash to it, and that it yields this store path
 * with these references. That proves the references if the address covers them.
 */
export interface ContentAddressCheck {
  /**
   * Receives every byte of the NAR.
   *
   * @throws NicheError `too-large` for too many references to itself
   */
  write(chunk: Uint8Array): void;
  /** Receives the files in the NAR. Throws `too-large` for too many; see {@link createGitHasher}. */
  readonly handler: NarHandler;
  /**
   * Ends the check.
   *
   * @param narDigest the SHA-256 of the whole NAR
   * @returns the form of the address when the contents contain their own store hash; else null
   * @throws NicheError `ca-mismatch`
   */
  verify(narDigest: Uint8Array): SelfReferenceForm | null;
}

/** Hashes what one kind of content address covers. */
interface ContentsHash {
  write?(chunk: Uint8Array): void;
  readonly handler?: NarHandler;
  /** Returns the digests that the address may have. Null when these contents cannot have one. */
  digests(narDigest: Uint8Array): readonly AddressDigest[] | null;
}

interface AddressDigest {
  readonly digest: Uint8Array;
  readonly form: SelfReferenceForm | null;
}

/** @param address the content address of `claim` */
export async function createContentAddressCheck(
  claim: NarClaim,
  address: ContentAddress,
): Promise<ContentAddressCheck> {
  const { info, storePath } = claim;
  const { name, storeDir } = storePath;
  const hasSelfReference = info.references.includes(info.path);
  const others = info.references.filter((reference) => reference !== info.path);
  const contents = await createContentsHash(claim, address);
  const expected = address.hash;
  const subject = `content address ${formatContentAddress(address)} of ${info.path}`;

  function computePath(): string {
    try {
      return computeCaPath(address, name, others, hasSelfReference, storeDir);
    } catch (cause) {
      // Some kinds of address allow no references, or no self-reference.
      const message = `the ${subject} does not allow its references`;
      throw new NicheError('ca-mismatch', message, { cause });
    }
  }

  function mismatch(wanted: string, got: string): NicheError {
    return new NicheError('ca-mismatch', `wrong ${subject}: expected ${wanted}, got ${got}`);
  }

  function formatDigest(digest: Uint8Array): string {
    return formatHash({ algorithm: expected.algorithm, digest }, 'base32');
  }

  return {
    write(chunk) {
      contents.write?.(chunk);
    },
    handler: contents.handler ?? {},
    verify(narDigest) {
      const digests = contents.digests(narDigest);
      if (digests === null) {
        throw mismatch('one regular file', 'other contents');
      }
      const match = digests.find(({ digest }) => Buffer.compare(digest, expected.digest) === 0);
      if (!match) {
        const got = digests.map(({ digest }) => formatDigest(digest)).join(' or ');
        throw mismatch(`contents that hash to ${formatDigest(expected.digest)}`, got);
      }
      const path = computePath();
      if (path !== info.path) throw mismatch(`the store path ${path}`, info.path);
      return match.form;
    },
  };
}

async function createContentsHash(claim: NarClaim, address: ContentAddress): Promise<ContentsHash> {
  const { method, hash } = address;
  const { info } = claim;
  const hasSelfReference = info.references.includes(info.path);
  switch (method) {
    case 'git':
      return gitContents(createGitHasher(hash.algorithm));
    case 'nar':
      // The address of most paths added to a store is the NAR hash, which is computed anyway.
      return hash.algorithm === 'sha256' && !hasSelfReference
        ? { digests: (narDigest) => [{ digest: narDigest, form: null }] }
        : narContents(await createAddressHash(claim, address));
    case 'text':
    case 'flat':
      return fileContents(await createAddressHash(claim, address));
  }
}

function gitContents(handler: GitHasher): ContentsHash {
  return { handler, digests: () => [{ digest: handler.digest(), form: null }] };
}

function narContents(hash: AddressHash): ContentsHash {
  return {
    write(chunk) {
      hash.update(chunk);
    },
    digests: () => hash.digests(),
  };
}

function fileContents(hash: AddressHash): ContentsHash {
  let isFile = false;
  return {
    handler: {
      regular(name) {
        isFile ||= name.length === 0;
      },
      contents(piece) {
        if (isFile) hash.update(piece);
      },
    },
    // As in Nix, the file may be executable.
    digests: () => (isFile ? hash.digests() : null),
  };
}

interface AddressHash {
  update(chunk: Uint8Array): void;
  digests(): readonly AddressDigest[];
}

async function createAddressHash(claim: NarClaim, address: ContentAddress): Promise<AddressHash> {
  const { info } = claim;
  const { algorithm } = address.hash;
  if (info.references.includes(info.path) && algorithm !== 'blake3') {
    const hash = createModuloHash(algorithm, claim);
    return {
      update(chunk) {
        hash.update(chunk);
      },
      digests: () => moduloDigests(hash, coversReferences(address)),
    };
  }
  const digester = await createDigester(algorithm);
  return {
    update(chunk) {
      digester.update(chunk);
    },
    digests: () => [{ digest: digester.digest(), form: null }],
  };
}

/** @param isMarked whether the name of the path depends on the reference to itself */
function moduloDigests(hash: ModuloHash, isMarked: boolean): readonly AddressDigest[] {
  const { plain, withPositions } = hash.digests();
  if (withPositions === null) return [{ digest: plain, form: null }];
  return isMarked
    ? [
        { digest: plain, form: 'no-positions' },
        { digest: withPositions, form: 'positions' },
      ]
    : [{ digest: withPositions, form: 'unmarked' }];
}
