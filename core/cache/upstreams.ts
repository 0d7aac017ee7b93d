import { NicheError, isNicheError, messageOf } from '../errors.ts';
import { fingerprint } from '../nix/fingerprint.ts';
import { parsePublicKey, verifyFingerprint } from '../nix/keys.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import type { PathInfo } from '../nix/path-info.ts';
import { storeHash } from '../nix/store-path.ts';
import type { ObjectReader } from '../storage/bucket.ts';
import { readNarInfo } from './read-narinfo.ts';

/** Another cache that all readers of this one use, and the key of its narinfos. */
export interface Upstream {
  readonly reader: ObjectReader;
  /** `<key name>:<base64>`. */
  readonly publicKey: string;
}

export interface Upstreams {
  /**
   * Finds a verified narinfo by store hash. A damaged or unverified one counts as missing.
   *
   * @returns null when every upstream answered and none has it
   * @throws NicheError `upstream-unavailable` when none has it, and at least one did not answer
   */
  findNarInfo(hash: string): Promise<NarInfo | null>;
  /** Returns the path's signatures that verify under an upstream's key; makes no request. */
  verifiedSignatures(info: PathInfo): string[];
}

export function createUpstreams(upstreams: readonly Upstream[], storeDir: string): Upstreams {
  const opened = upstreams.map(({ reader, publicKey }) => ({
    reader,
    publicKey: parsePublicKey(publicKey),
  }));

  async function findIn(
    { reader, publicKey }: (typeof opened)[number],
    hash: string,
  ): Promise<NarInfo | null> {
    const info = await readNarInfo(reader, hash, storeDir);
    if (!info || storeHash(info.path) !== hash) return null;
    const text = fingerprint(info, storeDir);
    const isVerified = info.signatures.some((each) => verifyFingerprint(text, each, [publicKey]));
    return isVerified ? info : null;
  }

  return {
    async findNarInfo(hash) {
      let failure: NicheError | null = null;
      for (const upstream of opened) {
        try {
          const info = await findIn(upstream, hash);
          if (info) return info;
        } catch (cause) {
          if (isNicheError(cause, 'storage-denied', 'storage-unavailable')) {
            failure = new NicheError(
              'upstream-unavailable',
              `cannot look up ${hash} in the upstream ${upstream.reader.url}: ${messageOf(cause)}`,
              { cause },
            );
          } else if (!isNicheError(cause)) {
            throw cause;
          }
        }
      }
      if (failure) throw failure;
      return null;
    },
    verifiedSignatures(info) {
      if (info.signatures.length === 0 || opened.length === 0) return [];
      const keys = opened.map(({ publicKey }) => publicKey);
      const text = fingerprint(info, storeDir);
      return info.signatures.filter((signature) => verifyFingerprint(text, signature, keys));
    },
  };
}
