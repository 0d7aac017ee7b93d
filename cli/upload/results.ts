import { messageOf, isNicheError } from '../../core/errors.ts';
import type { PathInfo } from '../../core/nix/path-info.ts';
import { isRealisationName } from '../../core/nix/realisation.ts';
import type { Outcome } from '../../core/cache/receipts/receipts.ts';
import type { LookupCounts } from '../../core/cache/stage/lookups.ts';
import { statusNotPublished, statusRejected } from '../process/context.ts';
import { count, formatBytes } from '../ui/format.ts';
import { conflictWith } from './confirm.ts';
import type { Skip } from './select.ts';

/** The result of one path: its receipt's status, or how far this upload got with it. */
export type PathStatus = Outcome['status'] | 'staged' | 'skipped' | 'failed';

/** One record of `--report`. */
export interface PathResult {
  readonly path: string;
  readonly narSize: number;
  readonly status: PathStatus;
  /**
   * The reason, if it was skipped, rejected or failed: a `RejectionCode`, `Skip` or `not-staged`. A
   * staged path with a receipt that its narinfo does not confirm has `unconfirmed`.
   */
  readonly code?: string;
  readonly message?: string;
  readonly missing?: readonly string[];
  readonly warnings?: readonly string[];
  /** With `conflict`: readers get the cache's own path, which is complete and signed. */
  readonly available?: true;
}

/** Requests that looked for paths, before they were staged and after a receipt reported them. */
export interface UploadLookups extends LookupCounts {
  /** Narinfos requested to confirm receipts. */
  readonly receipts: number;
}

type Sized = Pick<PathInfo, 'path' | 'narSize'>;

/** The results of an upload's paths so far. */
export interface Results {
  setSkipped(info: PathInfo, why: Skip): void;
  setStaged(info: Sized): void;
  setFailed(info: Sized, error: unknown): void;
  setOutcome(path: string, outcome: Outcome): void;
  /** Records why the receipt of a path counts as none: the path is pending. */
  setUnconfirmed(path: string, message: string): void;
  /** Records that the cache's own path is complete and signed. */
  setAvailable(path: string): void;
  get(path: string): PathResult | undefined;
  all(): readonly PathResult[];
  /** Returns the paths that are staged and have no final receipt. */
  pending(): string[];
}

export function createResults(): Results {
  const results = new Map<string, PathResult>();
  const set = (info: Sized, rest: Omit<PathResult, 'path' | 'narSize'>): void => {
    results.set(info.path, { path: info.path, narSize: info.narSize, ...rest });
  };
  return {
    setSkipped(info, why) {
      set(info, why === 'conflict' ? conflictWith(info.path) : { status: 'skipped', code: why });
    },
    setStaged(info) {
      // The publisher may have been faster.
      const status = results.get(info.path)?.status;
      if (status === undefined || status === 'failed') set(info, { status: 'staged' });
    },
    setFailed(info, error) {
      const code = isNicheError(error, 'nar-hash-mismatch', 'too-large')
        ? error.code
        : 'not-staged';
      set(info, { status: 'failed', code, message: messageOf(error) });
    },
    setOutcome(path, outcome) {
      const narSize = results.get(path)?.narSize ?? 0;
      results.set(path, { path, narSize, ...outcome });
    },
    setUnconfirmed(path, message) {
      const narSize = results.get(path)?.narSize ?? 0;
      results.set(path, { path, narSize, status: 'staged', code: 'unconfirmed', message });
    },
    setAvailable(path) {
      const result = results.get(path);
      if (result) results.set(path, { ...result, available: true });
    },
    get: (path) => results.get(path),
    all: () => [...results.values()],
    pending: () => [...results.values()].filter(isPending).map(({ path }) => path),
  };
}

function isPending({ status }: PathResult): boolean {
  return status === 'staged' || status === 'waiting';
}

/** Returns whether a path will not be published. */
export function isRefused({ status }: PathResult): boolean {
  return status === 'rejected' || status === 'failed';
}

/** Returns whether the cache keeps another build of the path, which readers can install. */
export function isBuiltDifferently({ available }: PathResult): boolean {
  return available === true;
}

/**
 * Returns the exit status of an upload; a failure of the wrapped command has precedence.
 *
 * @param strict whether a path of which the cache keeps another build counts as rejected
 */
export function exitStatusOf(results: readonly PathResult[], strict: boolean): number {
  if (results.some((each) => isRefused(each) && (strict || !isBuiltDifferently(each)))) {
    return statusRejected;
  }
  return results.some(isPending) ? statusNotPublished : 0;
}

/** Returns a line with the requests that looked for paths; null when there were none. */
export function describeLookups(counts: UploadLookups): string | null {
  const { known, lookups, listings, upstream, receipts } = counts;
  const requests = lookups + listings + upstream + receipts;
  if (requests === 0) return null;
  const parts = [
    ...(listings > 0 ? [count(listings, 'list page')] : []),
    ...(lookups > 0 ? [`${lookups} for narinfos`] : []),
    ...(upstream > 0 ? [`${upstream} to upstreams`] : []),
    ...(receipts > 0 ? [`${receipts} to confirm receipts`] : []),
    ...(known > 0 ? [`${count(known, 'path')} known without a request`] : []),
  ];
  return `looked for paths with ${count(requests, 'request')}: ${parts.join(', ')}`;
}

/** Returns a line that counts the paths and the realisations by result. */
export function summarize(results: readonly PathResult[]): string {
  const isRealisation = ({ path }: PathResult): boolean => isRealisationName(path);
  const counts = [
    countByResult(
      results.filter((each) => !isRealisation(each)),
      'path',
    ),
    countByResult(results.filter(isRealisation), 'realisation'),
  ];
  return counts.filter((text) => text !== '').join('; ') || 'nothing to upload';
}

function countByResult(results: readonly PathResult[], noun: 'path' | 'realisation'): string {
  const parts: string[] = [];
  const add = (what: string, matches: (result: PathResult) => boolean): void => {
    const some = results.filter(matches);
    if (some.length === 0) return;
    const number = parts.length === 0 ? count(some.length, noun) : String(some.length);
    const bytes = some.reduce((sum, { narSize }) => sum + narSize, 0);
    const size = what === 'published' && noun === 'path' ? ` (${formatBytes(bytes)})` : '';
    parts.push(`${number} ${what}${size}`);
  };
  add('published', ({ status }) => status === 'published');
  add('staged', ({ status }) => status === 'staged');
  add('waiting for references or upstreams', ({ status }) => status === 'waiting');
  add('rejected', (each) => each.status === 'rejected' && !isBuiltDifferently(each));
  add('built differently', isBuiltDifferently);
  add('failed', ({ status }) => status === 'failed');
  add('already there', ({ status, code }) => status === 'exists' || code === 'present');
  add('in an upstream', ({ code }) => code === 'upstream');
  add('excluded', ({ code }) => code === 'excluded');
  return parts.join(', ');
}
