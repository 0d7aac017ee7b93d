import { NicheError, isNicheError, messageOf } from '../errors.ts';
import { maxNarInfoBytes } from '../limits.ts';
import { fingerprint } from '../nix/fingerprint.ts';
import { parsePublicKey, verifyFingerprint } from '../nix/keys.ts';
import { parseNarInfo } from '../nix/narinfo.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import type { PathInfo } from '../nix/path-info.ts';
import { storeHash } from '../nix/store-path.ts';
import type { ObjectReader } from '../storage/bucket.ts';
import { narInfoKey } from './layout.ts';
import { readObject } from './objects.ts';

/** A cache that readers of this one also have, and the key that its narinfos are verified by. */
export interface Upstream {
  readonly reader: ObjectReader;
  /** `<key name>:<base64>`. */
  readonly publicKey: string;
}

export interface Upstreams {
  /**
   * The narinfo of the store hash `hash` that an upstream has and its key verifies. An upstream whose narinfo
   * is damaged or does not verify counts as not having it.
   *
   * @returns null when every upstream answered and none has it
   * @throws NicheError `upstream-unavailable` when none has it and one could not say
   */
  findNarInfo(hash: string): Promise<NarInfo | null>;
  /** Those of the path's signatures that verify under an upstream's key: no request is made. */
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
    const bytes = await readObject(reader, narInfoKey(hash), maxNarInfoBytes);
    if (!bytes) return null;
    const info = parseNarInfo(bytes.toString('utf8'), storeDir);
    const text = fingerprint(info, storeDir);
    if (storeHash(info.path) !== hash) return null;
    const proven = info.signatures.some((sig) => verifyFingerprint(text, sig, [publicKey]));
    return proven ? info : null;
  }

  return {
    async findNarInfo(hash) {
      let silent: NicheError | null = null;
      for (const upstream of opened) {
        try {
          const info = await findIn(upstream, hash);
          if (info) return info;
        } catch (cause) {
          if (isNicheError(cause, 'storage-denied', 'storage-unavailable')) {
            silent = new NicheError(
              'upstream-unavailable',
              `the upstream ${upstream.reader.url} does not say whether it has ${hash}: ${messageOf(cause)}`,
              { cause },
            );
          } else if (!isNicheError(cause)) {
            throw cause;
          }
        }
      }
      if (silent) throw silent;
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
