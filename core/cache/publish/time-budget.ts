import { NicheError } from '../../errors.ts';
import type { PathInfo } from '../../nix/path-info.ts';

/** Of the time limit, what reading and writing a NAR may take; the rest is for all around it. */
const narShare = 0.8;

/** The largest NAR, in bytes, that can be published within `timeLimitMs`. */
export function maxBytesWithin(timeLimitMs: number, bytesPerSecond: number): number {
  return Math.floor(narShare * (timeLimitMs / 1000) * bytesPerSecond);
}

export interface TimeBudgetOptions {
  /** The longest that the call may take, in milliseconds. */
  readonly timeLimitMs: number;
  /** NAR bytes a second that the publisher is counted on to publish. */
  readonly bytesPerSecond: number;
  /** Until the process may be ended, in milliseconds. @default the time limit, from now */
  readonly timeLeftMs?: (() => number) | undefined;
}

/** Begins no path that the time left of one call may not suffice for. */
export interface TimeBudget {
  /** Whether the time left is enough for so many bytes of NARs. */
  suffices(bytes: number): boolean;
  /**
   * Takes the path's time. The first of a call always begins: what the whole limit is not enough for
   * is refused elsewhere, and whoever calls again gets on by at least one path.
   *
   * @throws NicheError `out-of-time`
   */
  begin(claim: PathInfo): void;
}

export function createTimeBudget(options: TimeBudgetOptions): TimeBudget {
  const { timeLimitMs, bytesPerSecond } = options;
  const end = performance.now() + timeLimitMs;
  const { timeLeftMs = () => end - performance.now() } = options;
  const reserveMs = (1 - narShare) * timeLimitMs;
  const neededFor = (bytes: number): number => (bytes / bytesPerSecond) * 1000 + reserveMs;
  let hasBegun = false;
  return {
    suffices: (bytes) => timeLeftMs() >= neededFor(bytes),
    begin({ path, narSize }) {
      const neededMs = neededFor(narSize);
      const leftMs = timeLeftMs();
      if (hasBegun && leftMs < neededMs) {
        throw new NicheError(
          'out-of-time',
          `the time left is not enough for ${path} of ${narSize} bytes: expected ${Math.ceil(neededMs)} ms, got ${Math.floor(leftMs)} ms`,
          { hint: 'publish the batch again: what is done is found done' },
        );
      }
      hasBegun = true;
    },
  };
}
