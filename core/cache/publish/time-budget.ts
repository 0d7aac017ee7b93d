import { NicheError } from '../../errors.ts';
import type { PathInfo } from '../../nix/path-info.ts';

/** The share of the time limit that reading and writing a NAR may take. The rest is overhead. */
const narShare = 0.8;

/** Returns the size of the largest NAR that can be published within `timeLimitMs`, in bytes. */
export function maxBytesWithin(timeLimitMs: number, bytesPerSecond: number): number {
  return Math.floor(narShare * (timeLimitMs / 1000) * bytesPerSecond);
}

export interface TimeBudgetOptions {
  /** The longest that the call may take, in milliseconds. */
  readonly timeLimitMs: number;
  /** The expected publishing speed, in NAR bytes a second. */
  readonly bytesPerSecond: number;
  /** Returns the time until the process may be ended, in milliseconds. @default the time limit, from now */
  readonly timeLeftMs?: (() => number) | undefined;
}

/** Decides how many paths the time left in one call suffices for. */
export interface TimeBudget {
  /** Returns whether the time left suffices for this many bytes of NARs. */
  suffices(bytes: number): boolean;
  /**
   * Returns the first paths of the group, as many as the time left suffices for. The first path of a
   * call is always among them, so every call makes progress; NARs too large for the whole limit are
   * rejected as `too-large`.
   */
  takeAffordable<T extends { readonly claim: PathInfo }>(group: readonly T[]): Affordable<T>;
}

export interface Affordable<T> {
  readonly paths: readonly T[];
  /** An `out-of-time` error when these are not all paths of the group. */
  readonly stopped: NicheError | null;
}

export function createTimeBudget(options: TimeBudgetOptions): TimeBudget {
  const { timeLimitMs, bytesPerSecond } = options;
  const end = performance.now() + timeLimitMs;
  const { timeLeftMs = () => end - performance.now() } = options;
  const reserveMs = (1 - narShare) * timeLimitMs;
  const neededFor = (bytes: number): number => (bytes / bytesPerSecond) * 1000 + reserveMs;
  let hasStarted = false;
  return {
    suffices: (bytes) => timeLeftMs() >= neededFor(bytes),
    takeAffordable(group) {
      let bytes = 0;
      for (const [index, { claim }] of group.entries()) {
        bytes += claim.narSize;
        const neededMs = neededFor(bytes);
        const leftMs = timeLeftMs();
        if (hasStarted && leftMs < neededMs) {
          const stopped = outOfTime(claim.path, neededMs, leftMs);
          return { paths: group.slice(0, index), stopped };
        }
        hasStarted = true;
      }
      return { paths: group, stopped: null };
    },
  };
}

function outOfTime(path: string, neededMs: number, leftMs: number): NicheError {
  return new NicheError(
    'out-of-time',
    `not enough time left to publish ${path}: expected ${Math.ceil(neededMs)} ms, got ${Math.floor(leftMs)} ms`,
    { hint: 'publish the batch again: published paths are not published twice' },
  );
}
