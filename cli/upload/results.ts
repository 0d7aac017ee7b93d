import { messageOf, isNicheError } from '../../core/errors.ts';
import type { PathInfo } from '../../core/nix/path-info.ts';
import type { Outcome } from '../../core/cache/receipts/receipts.ts';
import type { LookupCounts } from '../../core/cache/stage/lookups.ts';
import { statusNotPublished, statusRejected } from '../context.ts';
import { count, formatBytes } from '../ui/format.ts';
import type { Skip } from './select.ts';

/** What became of one path: a receipt's status, or how far it got here. */
export type PathStatus = Outcome['status'] | 'staged' | 'skipped' | 'failed';

/** One record of `--report`. */
export interface PathResult {
  readonly path: string;
  readonly narSize: number;
  readonly status: PathStatus;
  /** The reason, if it was skipped, rejected or failed: a `RejectionCode`, `Skip` or `not-staged`. */
  readonly code?: string;
  readonly message?: string;
  readonly missing?: readonly string[];
  readonly warnings?: readonly string[];
}

type Sized = Pick<PathInfo, 'path' | 'narSize'>;

/** What is known of each path of an upload. */
export interface Results {
  skipped(info: PathInfo, why: Skip): void;
  staged(info: PathInfo): void;
  failed(info: Sized, error: unknown): void;
  settled(path: string, outcome: Outcome): void;
  get(path: string): PathResult | undefined;
  all(): readonly PathResult[];
  /** The paths that were staged and have no final receipt. */
  unsettled(): string[];
}

export function createResults(): Results {
  const results = new Map<string, PathResult>();
  const set = (info: Sized, rest: Omit<PathResult, 'path' | 'narSize'>): void => {
    results.set(info.path, { path: info.path, narSize: info.narSize, ...rest });
  };
  return {
    skipped(info, why) {
      if (why === 'conflict') {
        const message = `the cache has ${info.path} with other contents or references, and a published path never changes`;
        set(info, { status: 'rejected', code: 'conflict', message });
      } else set(info, { status: 'skipped', code: why });
    },
    staged(info) {
      // The publisher may have been faster.
      const status = results.get(info.path)?.status;
      if (status === undefined || status === 'failed') set(info, { status: 'staged' });
    },
    failed(info, error) {
      const code = isNicheError(error, 'nar-hash-mismatch', 'too-large')
        ? error.code
        : 'not-staged';
      set(info, { status: 'failed', code, message: messageOf(error) });
    },
    settled(path, outcome) {
      const narSize = results.get(path)?.narSize ?? 0;
      results.set(path, { path, narSize, ...outcome });
    },
    get: (path) => results.get(path),
    all: () => [...results.values()],
    unsettled: () =>
      [...results.values()]
        .filter(({ status }) => status === 'staged' || status === 'waiting')
        .map(({ path }) => path),
  };
}

/** The exit status that an upload asks for; a failed nix has precedence. */
export function exitStatusOf(results: readonly PathResult[]): number {
  if (results.some(({ status }) => status === 'rejected' || status === 'failed')) {
    return statusRejected;
  }
  const isOpen = results.some(({ status }) => status === 'staged' || status === 'waiting');
  return isOpen ? statusNotPublished : 0;
}

/** One line for a person: what it cost to find out what the cache lacks; null for nothing. */
export function describeLookups(counts: LookupCounts): string | null {
  const { known, lookups, listings, upstream } = counts;
  const requests = lookups + listings + upstream;
  if (requests === 0) return null;
  const parts = [
    ...(listings > 0 ? [count(listings, 'page of a listing', 'pages of a listing')] : []),
    ...(lookups > 0 ? [`${count(lookups, 'look-up')} in the cache`] : []),
    ...(upstream > 0 ? [`${upstream} in upstreams`] : []),
    ...(known > 0 ? [`${count(known, 'path')} known before`] : []),
  ];
  return `asked what is there with ${count(requests, 'request')}: ${parts.join(', ')}`;
}

/** One line for a person: how many paths became what. */
export function summarize(results: readonly PathResult[]): string {
  const parts: string[] = [];
  const add = (what: string, isIt: (result: PathResult) => boolean): void => {
    const some = results.filter(isIt);
    if (some.length === 0) return;
    const number = parts.length === 0 ? count(some.length, 'path') : String(some.length);
    const bytes = some.reduce((sum, { narSize }) => sum + narSize, 0);
    const size = what === 'published' ? ` (${formatBytes(bytes)})` : '';
    parts.push(`${number} ${what}${size}`);
  };
  add('published', ({ status }) => status === 'published');
  add('staged', ({ status }) => status === 'staged');
  add('waiting for references', ({ status }) => status === 'waiting');
  add('rejected', ({ status }) => status === 'rejected');
  add('failed', ({ status }) => status === 'failed');
  add('already there', ({ status, code }) => status === 'exists' || code === 'present');
  add('in an upstream', ({ code }) => code === 'upstream');
  add('excluded', ({ code }) => code === 'excluded');
  return parts.length > 0 ? parts.join(', ') : 'nothing to upload';
}
