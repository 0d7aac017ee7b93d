import type { Nix } from './nix.ts';
import { packTree } from './pack-tree.ts';

/**
 * Yields the NAR of a store path: from its files, or from Nix if the store is on another machine. There
 * each path takes a connection of its own.
 *
 * @throws NicheError while iterating: the codes of {@link packTree}; `nix-failed`
 */
export function readNar(
  nix: Nix,
  storePath: string,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array, undefined> {
  const file = nix.realPath(storePath);
  return file === null
    ? nix.stream('nix', ['store', 'dump-path', storePath], signal)
    : packTree(file, { signal });
}
