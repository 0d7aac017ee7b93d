import { createHash } from 'node:crypto';

import type { PathInfo } from '../../nix/path-info.ts';
import type { CacheConfig } from '../config.ts';
import type { LocalDatabase } from './database.ts';

/** Where readers of a cache get a path from. */
export type KnownLocation = 'present' | 'upstream';

/**
 * The paths that are known to be in the cache or in an upstream, with the very contents and references
 * that they have here. Only what was seen there is remembered, and not for long: a cache may lose it.
 */
export interface KnownPaths {
  findPath(info: PathInfo): KnownLocation | null;
  rememberPaths(infos: readonly PathInfo[], place: KnownLocation): void;
  /** Somebody says that readers do not have them. */
  forgetPaths(paths: readonly string[]): void;
}

/** How long it is believed that a path is where it was seen, in milliseconds. */
const maxAgeMs = 24 * 60 * 60 * 1000;

export function createKnownPaths(database: LocalDatabase, now = Date.now): KnownPaths {
  database.run('DELETE FROM known WHERE at < ?', now() - maxAgeMs);
  return {
    findPath(info) {
      const [row] = database.all(
        'SELECT place FROM known WHERE digest = ? AND at >= ?',
        pathDigest(info),
        now() - maxAgeMs,
      );
      const place = row?.['place'];
      return place === 'present' || place === 'upstream' ? place : null;
    },
    rememberPaths(infos, place) {
      if (infos.length === 0) return;
      database.transaction(() => {
        for (const info of infos) {
          database.run(
            'INSERT OR REPLACE INTO known VALUES (?, ?, ?, ?)',
            ...[pathDigest(info), info.path, place, now()],
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
  };
}

/** Of all by which two paths of one name can differ. */
export function pathDigest({ path, narHash, narSize, references }: PathInfo): string {
  const text = [path, narHash, narSize, ...[...references].sort()].join('\n');
  return createHash('sha256').update(text).digest('hex');
}

/** Tells the cache at `url` from every other, also from one that was made anew in the same bucket. */
export function cacheIdentity(url: string, { publicKeys, upstreams }: CacheConfig): string {
  const parts = [url, [...publicKeys].sort(), upstreams.map((one) => [one.url, one.publicKey])];
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 32);
}
