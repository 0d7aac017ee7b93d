import { createHash } from 'node:crypto';

import { NicheError, isNicheError } from '../../errors.ts';
import { formatHash } from '../../nix/hash.ts';
import type { PathInfo } from '../../nix/path-info.ts';

/** A store path that this machine has, to be staged. */
export interface LocalPath {
  readonly info: PathInfo;
  /** Its NAR; throws `not-found` when the path has been collected. */
  readonly openNar: () => AsyncIterable<Uint8Array>;
  /** Its build log, null when there is none. */
  readonly readLog?: () => Promise<Uint8Array | null>;
}

/** Hears of a path that could not be staged; the others go on. */
export type OnFailed = (info: PathInfo, error: unknown) => void;

/**
 * Feeds the path's NAR to `take`; false, once reported, when it is not what its info says.
 *
 * @throws what `take` throws of storage, or when it was aborted
 */
export async function packVerified(
  path: LocalPath,
  take: (nar: AsyncIterable<Uint8Array>) => Promise<void>,
  onFailed: OnFailed,
): Promise<boolean> {
  try {
    await take(verified(path));
    return true;
  } catch (error) {
    if (isNicheError(error) && !error.code.startsWith('storage-') && error.code !== 'aborted') {
      onFailed(path.info, error);
      return false;
    }
    throw error;
  }
}

/** The path's NAR, as long as it is the one that Nix registered. */
async function* verified({ info, openNar }: LocalPath): AsyncIterable<Uint8Array> {
  const hash = createHash('sha256');
  let size = 0;
  for await (const chunk of openNar()) {
    hash.update(chunk);
    size += chunk.length;
    yield chunk;
  }
  const narHash = formatHash({ algorithm: 'sha256', digest: hash.digest() }, 'base32');
  if (narHash !== info.narHash || size !== info.narSize) {
    throw new NicheError(
      'nar-hash-mismatch',
      `${info.path} is not what Nix built: expected ${info.narHash} (${info.narSize} bytes), got ${narHash} (${size} bytes)`,
      { hint: 'repair it with: nix-store --repair-path' },
    );
  }
}
