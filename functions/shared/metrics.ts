import type { PublishResult } from '../../core/cache/publish/report.ts';

/** The counts of one invocation. Each cloud turns them into metrics of its own. */
export interface InvocationMetrics {
  readonly published: number;
  readonly exists: number;
  readonly waiting: number;
  /** Rejected paths by error code. */
  readonly rejected: ReadonlyMap<string, number>;
  /** NAR bytes of the published paths. */
  readonly narBytes: number;
  /** Failed jobs by error code. The queue delivers them again. */
  readonly failed: ReadonlyMap<string, number>;
  /** Events that could not be parsed. */
  readonly malformed: number;
  /** In milliseconds. */
  readonly durationMs: number;
}

/** Counts what one invocation does. */
export interface MetricsRecorder {
  countOutcome(published: PublishResult): void;
  countFailure(code: string): void;
  countMalformed(): void;
  /** Returns the counts so far. */
  snapshot(): InvocationMetrics;
}

/** Starts counting, and the clock of `durationMs`. */
export function createMetrics(): MetricsRecorder {
  const startedAt = performance.now();
  const counts = { published: 0, exists: 0, waiting: 0, narBytes: 0, malformed: 0 };
  const rejected = new Map<string, number>();
  const failed = new Map<string, number>();
  const increment = (map: Map<string, number>, code: string): void => {
    map.set(code, (map.get(code) ?? 0) + 1);
  };
  return {
    countOutcome({ outcome, narSize }) {
      const { status, code } = outcome;
      if (status === 'rejected') increment(rejected, code ?? 'failed');
      else counts[status] += 1;
      if (status === 'published') counts.narBytes += narSize ?? 0;
    },
    countFailure: (code) => {
      increment(failed, code);
    },
    countMalformed: () => (counts.malformed += 1),
    snapshot: () => ({ ...counts, rejected, failed, durationMs: performance.now() - startedAt }),
  };
}

/** Returns the metrics as fields of a log record, for clouds that derive metrics from the log. */
export function metricsFields({
  rejected,
  failed,
  durationMs,
  ...counts
}: InvocationMetrics): object {
  return {
    ...counts,
    rejected: Object.fromEntries(rejected),
    failed: Object.fromEntries(failed),
    durationMs: Math.round(durationMs),
  };
}
