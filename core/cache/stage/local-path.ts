import { createHash } from 'node:crypto';

import { NicheError, isNicheError } from '../../errors.ts';
import { formatSha256 } from '../../nix/hash.ts';
import type { PathInfo } from '../../nix/path-info.ts';

/** A valid store path of this machine, to be staged. */
export interface LocalPath {
  readonly info: PathInfo;
  /** Streams the NAR; throws `not-found` when the path has been garbage-collected. */
  readonly openNar: () => AsyncIterable<Uint8Array>;
  /** Reads the build log; null when there is none. */
  readonly readLog?: () => Promise<Uint8Array | null>;
}

/** Called for each path that could not be staged. Staging continues with the others. */
export type OnFailed = (info: Pick<PathInfo, 'path' | 'narSize'>, error: unknown) => void;

/**
 * Passes the path's NAR to `send` and compares it with the hash and size that Nix registered.
 *
 * @returns false, after a call of `onFailed`, when the NAR differs or cannot be read
 * @throws NicheError `storage-…` or `aborted` from `send`, and every other kind of error
 */
export async function sendVerifiedNar(
  path: LocalPath,
  send: (nar: AsyncIterable<Uint8Array>) => Promise<void>,
  onFailed: OnFailed,
): Promise<boolean> {
  try {
    await send(verifiedNar(path));
    return true;
  } catch (error) {
    if (isNicheError(error) && !error.code.startsWith('storage-') && error.code !== 'aborted') {
      onFailed(path.info, error);
      return false;
    }
    throw error;
  }
}

/** Streams the NAR; throws `nar-hash-mismatch` at its end when it is not the registered one. */
async function* verifiedNar({ info, openNar }: LocalPath): AsyncIterable<Uint8Array> {
  const hash = createHash('sha256');
  let size = 0;
  for await (const chunk of openNar()) {
    hash.update(chunk);
    size += chunk.length;
    yield chunk;
  }
  const narHash = formatSha256(hash.digest());
  if (narHash !== info.narHash || size !== info.narSize) {
    throw new NicheError(
      'nar-hash-mismatch',
      `${info.path} was modified in the store: expected ${info.narHash} (${info.narSize} bytes), got ${narHash} (${size} bytes)`,
      { hint: `nix-store --repair-path ${info.path}` },
    );
  }
}
