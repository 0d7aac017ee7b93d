import type { PublishResult } from '../../core/cache/publish/publisher.ts';

/** What one invocation came to; each cloud makes metrics of it in its own form. */
export interface Tally {
  readonly published: number;
  readonly exists: number;
  readonly waiting: number;
  /** Paths that were rejected, by code. */
  readonly rejected: ReadonlyMap<string, number>;
  /** NAR bytes of what was published. */
  readonly narBytes: number;
  /** Tasks that failed and are to be done again, by code. */
  readonly failed: ReadonlyMap<string, number>;
  /** Events that could not be read. */
  readonly malformed: number;
  /** In milliseconds. */
  readonly durationMs: number;
}

export interface Counter {
  outcome(published: PublishResult): void;
  failed(code: string): void;
  malformed(): void;
  /** Everything counted so far. */
  tally(): Tally;
}

export function createCounter(): Counter {
  const begun = performance.now();
  const counts = { published: 0, exists: 0, waiting: 0, narBytes: 0, malformed: 0 };
  const rejected = new Map<string, number>();
  const failed = new Map<string, number>();
  const increase = (map: Map<string, number>, code: string): void => {
    map.set(code, (map.get(code) ?? 0) + 1);
  };
  return {
    outcome({ outcome, narSize }) {
      const { status, code } = outcome;
      if (status === 'rejected') increase(rejected, code ?? 'failed');
      else counts[status] += 1;
      if (status === 'published') counts.narBytes += narSize ?? 0;
    },
    failed: (code) => {
      increase(failed, code);
    },
    malformed: () => (counts.malformed += 1),
    tally: () => ({ ...counts, rejected, failed, durationMs: performance.now() - begun }),
  };
}

/** The tally as fields of a record, for clouds that make their metrics of the log. */
export function tallyRecord({ rejected, failed, durationMs, ...counts }: Tally): object {
  return {
    ...counts,
    rejected: Object.fromEntries(rejected),
    failed: Object.fromEntries(failed),
    durationMs: Math.round(durationMs),
  };
}
