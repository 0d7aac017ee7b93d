import { mapConcurrent } from '../concurrency.ts';
import { maxNarInfoBytes } from '../limits.ts';
import { parseNarInfo } from '../nix/narinfo.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import type { PathInfo } from '../nix/path-info.ts';
import { storeHash } from '../nix/store-path.ts';
import type { ObjectReader } from '../storage/http.ts';
import { narInfoKey } from './layout.ts';
import { readText } from './objects.ts';
import type { Upstreams } from './upstreams.ts';

const lookupsAtOnce = 16;

/** Which paths readers of the cache can have, from it or from an upstream. */
export interface Presence {
  /**
   * The references that are neither here nor upstream. What was found once is not asked for again;
   * what was not found always is.
   */
  missing(references: readonly string[]): Promise<string[]>;
  /** Takes note of a path whose narinfo this publisher has just read or created here. */
  note(path: string): void;
}

/** The narinfo of `storeHash` in the cache, null when there is none. */
export async function findNarInfo(
  cache: ObjectReader,
  hash: string,
  storeDir: string,
): Promise<NarInfo | null> {
  const text = await readText(cache, narInfoKey(hash), maxNarInfoBytes);
  return text === null ? null : parseNarInfo(text, storeDir);
}

export function createPresence(options: {
  readonly cache: ObjectReader;
  readonly upstreams: Upstreams;
  readonly storeDir: string;
  /** Store hashes that an administrator has withdrawn. */
  readonly blocked: ReadonlySet<string>;
}): Presence {
  const { cache, upstreams, storeDir, blocked } = options;
  const present = new Set<string>();

  async function isPresent(path: string): Promise<boolean> {
    const hash = storeHash(path);
    if (blocked.has(hash)) return false;
    const info = (await findNarInfo(cache, hash, storeDir)) ?? (await upstreams.find(hash));
    return info?.path === path;
  }

  return {
    async missing(references) {
      const unknown = references.filter((path) => !present.has(path));
      const found = await mapConcurrent(unknown, lookupsAtOnce, isPresent);
      for (const [index, path] of unknown.entries()) if (found[index]) present.add(path);
      return unknown.filter((path) => !present.has(path));
    },
    note: (path) => present.add(path),
  };
}

/** Whether two path infos are of the same contents with the same references. */
export function isSame(one: PathInfo, other: PathInfo): boolean {
  return (
    one.path === other.path &&
    one.narHash === other.narHash &&
    one.narSize === other.narSize &&
    one.references.join() === other.references.join()
  );
}
