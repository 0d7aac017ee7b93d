import { NicheError, isNicheError } from '../errors.ts';
import { parsePublicKey } from '../nix/keys.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import type { PathInfo } from '../nix/path-info.ts';
import { storeHash } from '../nix/store-path.ts';
import type { ObjectReader } from '../storage/bucket.ts';
import { narInfoKey } from './layout.ts';
import { isDown } from './upstream-outage.ts';
import type { OutageWait } from './upstream-outage.ts';
import { isUnreadableNarInfo, readNarInfo } from './read-narinfo.ts';
import { readRealisation } from './read-realisation.ts';
import { signaturesBy } from './signed-narinfo.ts';

/** Another cache that all readers of this one use, and the key of its narinfos. */
export interface Upstream {
  readonly reader: ObjectReader;
  /** `<key name>:<base64>`. */
  readonly publicKey: string;
  /** @default without waiting, every lookup in an upstream that is down fails */
  readonly waitOut?: OutageWait | undefined;
}

/** What the upstreams have under a store hash. */
export type UpstreamLookup =
  /** At least one has a narinfo that its key verifies. */
  | { readonly kind: 'found'; readonly info: NarInfo }
  /** At least one has something that niche cannot read or verify. Readers may see more in it. */
  | { readonly kind: 'unusable'; readonly why: string }
  | { readonly kind: 'absent' };

export interface Upstreams {
  /**
   * Looks a store hash up in each upstream until one has it.
   *
   * @throws NicheError `upstream-unavailable` when none has it, and at least one did not answer
   */
  findNarInfo(hash: string): Promise<UpstreamLookup>;
  /**
   * Looks a realisation up by its key in each upstream until one has it, signed by its key.
   *
   * @returns the full path of the output; null when no upstream has it
   * @throws NicheError `upstream-unavailable` when none has it, and at least one did not answer
   */
  findRealisation(key: string): Promise<string | null>;
  /** Returns the path's signatures that verify under an upstream's key; makes no request. */
  verifiedSignatures(info: PathInfo): string[];
}

export function createUpstreams(upstreams: readonly Upstream[], storeDir: string): Upstreams {
  const opened = upstreams.map(({ reader, publicKey, waitOut = (lookup) => lookup() }) => ({
    reader,
    publicKey: parsePublicKey(publicKey),
    waitOut,
  }));
  const keys = opened.map(({ publicKey }) => publicKey);

  /** @throws NicheError `upstream-unavailable` */
  async function findIn(
    { reader, publicKey, waitOut }: (typeof opened)[number],
    hash: string,
  ): Promise<UpstreamLookup> {
    const unusable = (reason: string): UpstreamLookup => ({
      kind: 'unusable',
      why: `${narInfoKey(hash)} in ${reader.url} is unusable: ${reason}`,
    });
    let info: NarInfo | null;
    try {
      info = await waitOut(() => readNarInfo(reader, hash, storeDir));
    } catch (cause) {
      if (isUnreadableNarInfo(cause)) return unusable(cause.message);
      if (!isNicheError(cause) || cause.code === 'aborted') throw cause;
      const message = `cannot look up ${hash} in the upstream ${reader.url}: ${cause.message}`;
      throw new NicheError('upstream-unavailable', message, { cause });
    }
    if (!info) return { kind: 'absent' };
    if (storeHash(info.path) !== hash) return unusable(`it is the narinfo of ${info.path}`);
    if (signaturesBy(info, storeDir, [publicKey]).length === 0)
      return unusable(`it has no valid signature by the key ${publicKey.name}`);
    return { kind: 'found', info };
  }

  return {
    async findNarInfo(hash) {
      let failure: NicheError | null = null;
      let result: UpstreamLookup = { kind: 'absent' };
      for (const upstream of opened) {
        try {
          const lookup = await findIn(upstream, hash);
          if (lookup.kind === 'found') return lookup;
          if (lookup.kind === 'unusable') result = lookup;
        } catch (error) {
          if (!isNicheError(error, 'upstream-unavailable')) throw error;
          failure = error;
        }
      }
      if (failure) throw failure;
      return result;
    },
    async findRealisation(key) {
      let failure: NicheError | null = null;
      for (const { reader, publicKey } of opened) {
        try {
          const trusted = { storeDir, publicKeys: [publicKey] };
          const lookup = await readRealisation(reader, key, trusted);
          if (lookup.kind === 'found') return lookup.value.outPath;
        } catch (cause) {
          if (!isNicheError(cause) || cause.code === 'aborted') throw cause;
          const message = `cannot look up ${key} in the upstream ${reader.url}: ${cause.message}`;
          failure = new NicheError('upstream-unavailable', message, { cause });
        }
      }
      if (failure) throw failure;
      return null;
    },
    verifiedSignatures: (info) => signaturesBy(info, storeDir, keys),
  };
}

/**
 * Whether `error` means that an upstream is down, so that a later lookup may succeed. A denied lookup is
 * `upstream-unavailable` too, and stays denied.
 */
export function isUpstreamOutage(error: unknown): boolean {
  return isNicheError(error, 'upstream-unavailable') && isDown(error.cause);
}
