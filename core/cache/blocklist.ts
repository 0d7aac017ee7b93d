import type { PathInfo } from '../nix/path-info.ts';
import { storeHash } from '../nix/store-path.ts';
import type { Bucket, ListedObject } from '../storage/bucket.ts';
import { blockedPrefix, parseBlockedKey } from './layout.ts';
import type { BlockedMarker } from './layout.ts';

/** The paths and contents that an administrator has withdrawn. */
export interface Blocked {
  /** Returns whether the path is withdrawn, or a process is deleting its narinfo. */
  has(storeHash: string): boolean;
  /** Returns whether contents are refused under every name. */
  hasNar(narHash: string): boolean;
  /** Returns whether the path or its contents are withdrawn. */
  refuses(info: Pick<PathInfo, 'path' | 'narHash'>): boolean;
  /**
   * Returns whether the path is withdrawn or was until recently. A process that found it published
   * earlier has to look again.
   */
  wasBlocked(storeHash: string): boolean;
}

/** Does the same as {@link Blocked}, as of the last read of the private bucket. */
export interface Blocklist extends Blocked {
  /** Reads the private bucket again. */
  refresh(): Promise<void>;
}

export async function openBlocklist(privateBucket: Bucket): Promise<Blocklist> {
  let blocked = await listBlocked(privateBucket);
  return {
    has: (hash) => blocked.has(hash),
    hasNar: (narHash) => blocked.hasNar(narHash),
    refuses: (info) => blocked.refuses(info),
    wasBlocked: (hash) => blocked.wasBlocked(hash),
    async refresh() {
      blocked = await listBlocked(privateBucket);
    },
  };
}

/** Lists the withdrawn paths and contents. */
export async function listBlocked(privateBucket: Bucket): Promise<Blocked> {
  const paths = new Set<string>();
  const undone = new Set<string>();
  const nars = new Set<string>();
  for await (const { kind, hash } of listMarkers(privateBucket)) {
    if (kind === 'path' || kind === 'deleting') paths.add(hash);
    if (kind === 'undone') undone.add(hash);
    if (kind === 'nar' || kind === 'purging') nars.add(hash);
  }
  const has = (hash: string): boolean => paths.has(hash);
  const hasNar = (narHash: string): boolean => nars.has(narHash);
  return {
    has,
    hasNar,
    refuses: ({ path, narHash }) => has(storeHash(path)) || hasNar(narHash),
    wasBlocked: (hash) => has(hash) || undone.has(hash),
  };
}

/** Lists the objects below `blocked/`, each with its meaning. */
export async function* listMarkers(
  privateBucket: Bucket,
): AsyncIterable<BlockedMarker & { readonly object: ListedObject }> {
  for await (const object of privateBucket.list(blockedPrefix)) {
    const marker = parseBlockedKey(object.key);
    if (marker) yield { ...marker, object };
  }
}

/** For a client that may not read the private bucket. */
export const nothingBlocked: Blocked = {
  has: () => false,
  hasNar: () => false,
  refuses: () => false,
  wasBlocked: () => false,
};
