import { createHash } from 'node:crypto';

import type { PathInfo } from '../../nix/path-info.ts';
import type { CacheConfig } from '../config.ts';
import type { LocalDatabase } from './database.ts';

/** Where a path is available: in the cache or in an upstream. */
export type KnownLocation = 'present' | 'upstream';

/**
 * Remembers paths that are in the cache or an upstream, with the contents and references that they
 * have on this machine. Records only what was seen there, and forgets it after a day, because a cache
 * may lose a path.
 */
export interface KnownPaths {
  findPath(info: PathInfo): KnownLocation | null;
  rememberPaths(infos: readonly PathInfo[], location: KnownLocation): void;
  /** Forgets paths that turned out to be missing. */
  forgetPaths(paths: readonly string[]): void;
  /** Forgets all paths with this store hash. */
  forgetHash(hash: string): void;
}

/** How long a path counts as available after it was seen, in milliseconds. */
const maxAgeMs = 24 * 60 * 60 * 1000;

export function createKnownPaths(database: LocalDatabase, now = Date.now): KnownPaths {
  database.run('DELETE FROM known WHERE at < ?', now() - maxAgeMs);
  return {
    findPath(info) {
      const [row] = database.all(
        'SELECT location FROM known WHERE digest = ? AND at >= ?',
        pathDigest(info),
        now() - maxAgeMs,
      );
      const location = row?.['location'];
      return location === 'present' || location === 'upstream' ? location : null;
    },
    rememberPaths(infos, location) {
      if (infos.length === 0) return;
      database.transaction(() => {
        for (const info of infos) {
          database.run(
            'INSERT OR REPLACE INTO known VALUES (?, ?, ?, ?)',
            ...[pathDigest(info), info.path, location, now()],
          );
        }
      });
    },
    forgetPaths(paths) {
      if (paths.length === 0) return;
      database.transaction(() => {
        for (const path of paths) database.run('DELETE FROM known WHERE path = ?', path);
      });
    },
    forgetHash(hash) {
      database.run('DELETE FROM known WHERE path GLOB ?', `*/${hash}-*`);
    },
  };
}

/** Hashes everything in which two paths of one name can differ. */
export function pathDigest({ path, narHash, narSize, references }: PathInfo): string {
  const text = [path, narHash, narSize, ...[...references].sort()].join('\n');
  return createHash('sha256').update(text).digest('hex');
}

/** Identifies the cache at `url`; a new cache in the same bucket gets another identity. */
export function cacheIdentity(url: string, { publicKeys, upstreams }: CacheConfig): string {
  const parts = [url, [...publicKeys].sort(), upstreams.map((one) => [one.url, one.publicKey])];
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 32);
}
