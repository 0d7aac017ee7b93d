import { setTimeout as sleep } from 'node:timers/promises';

import type { ReportedOrigin } from '../../core/cache/audit.ts';
import type { BatchId } from '../../core/cache/layout.ts';
import type { LocalPublisher, PublisherLoad } from '../../core/cache/publish/local-publisher.ts';
import { isNicheError, toError } from '../../core/errors.ts';

export interface WorkerOptions {
  /** Opens the publisher. It calls `onEnded` at the end of each task of its queue. */
  readonly open: (onEnded: OnEnded) => LocalPublisher;
  /** Between two listings of the staged batches, in milliseconds. */
  readonly intervalMs: number;
  /** Between two sweeps, in milliseconds. */
  readonly sweepIntervalMs: number;
  /** For the tasks in flight to finish once the worker stops, in milliseconds. */
  readonly graceMs: number;
  readonly onEvent: (event: WorkerEvent) => void;
}

/** @param id the batch; null for a path that is resumed or withdrawn */
type OnEnded = (id: BatchId | null, failure: Error | null) => void;

/** An event of the worker itself. The publisher reports the results of paths. */
export type WorkerEvent =
  | { readonly event: 'failed'; readonly action: string; readonly error: Error }
  | { readonly event: 'recovered'; readonly action: string }
  | { readonly event: 'swept'; readonly deleted: number }
  /** The grace time ended with tasks in flight. Their markers remain for the next worker. */
  | { readonly event: 'abandoned'; readonly running: number };

/** The health of a worker. */
export interface Health extends PublisherLoad {
  /** Whether storage has responded recently. */
  readonly ok: boolean;
  /** The time of the last success, ISO 8601; null before the first. */
  readonly lastSuccess: string | null;
  /** The code of the last failure since then; null without one. */
  readonly lastFailure: string | null;
}

/** Publishes staged batches for as long as it runs. */
export interface Worker {
  /** Queues the batch of a notification; returns at once. */
  readonly submit: (id: BatchId, origin: ReportedOrigin | null) => void;
  /** Runs until `signal` is aborted and the tasks in flight have ended. */
  run(signal: AbortSignal): Promise<void>;
  readonly health: () => Health;
}

/** The longest delay before a failed batch is retried, in milliseconds. It doubles each time. */
const maxHoldMs = 5 * 60 * 1000;
const firstHoldMs = 1_000;
/** A worker without a success for three intervals, and at least this time, is unhealthy. */
const unhealthyIntervals = 3;
const unhealthyMs = 60_000;

/**
 * Returns a worker. It also lists staged batches on an interval, since notifications may be lost. A
 * failure does not stop it: the failed batch stays staged, and is retried after the outage.
 */
export function createWorker(options: WorkerOptions): Worker {
  const { intervalMs, sweepIntervalMs, graceMs, onEvent } = options;
  const held = new Map<string, { until: number; holdMs: number }>();
  const failing = new Set<string>();
  const begunAt = Date.now();
  let lastSuccess: number | null = null;
  let lastFailure: string | null = null;

  const publisher = options.open((id, failure) => {
    recordResult(
      id === null ? 'resuming or withdrawing a path' : `publishing batch ${nameOf(id)}`,
      failure,
    );
    if (id === null) return;
    const name = nameOf(id);
    if (failure === null) held.delete(name);
    else {
      const holdMs = Math.min(maxHoldMs, (held.get(name)?.holdMs ?? firstHoldMs / 2) * 2);
      held.set(name, { until: Date.now() + holdMs * (0.5 + Math.random() / 2), holdMs });
    }
  });

  /** Reports a failure once, however often it repeats, and its end. */
  function recordResult(action: string, failure: Error | null): void {
    if (failure === null) {
      lastSuccess = Date.now();
      lastFailure = null;
      if (failing.delete(action)) onEvent({ event: 'recovered', action });
      return;
    }
    lastFailure = isNicheError(failure) ? failure.code : 'internal';
    if (failing.has(action)) return;
    failing.add(action);
    onEvent({ event: 'failed', action, error: failure });
  }

  async function attempt(action: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
      recordResult(action, null);
    } catch (error) {
      recordResult(action, toError(error));
    }
  }

  function isDue(id: BatchId): boolean {
    return (held.get(nameOf(id))?.until ?? 0) <= Date.now();
  }

  async function listStaged(): Promise<void> {
    const staged = new Set<string>();
    await publisher.submitStaged((id) => {
      staged.add(nameOf(id));
      return isDue(id);
    });
    // Another worker may have published a batch that failed here.
    for (const name of held.keys()) if (!staged.has(name)) held.delete(name);
  }

  async function sweep(): Promise<void> {
    const { deleted } = await publisher.sweep();
    if (deleted > 0) onEvent({ event: 'swept', deleted });
  }

  return {
    submit(id, origin) {
      if (isDue(id)) publisher.submit(id, origin ?? undefined);
    },

    async run(signal) {
      let sweptAt = -Infinity;
      let sweeping: Promise<void> | null = null;
      while (!signal.aborted) {
        await attempt('listing staged batches', listStaged);
        if (sweeping === null && Date.now() - sweptAt >= sweepIntervalMs) {
          sweptAt = Date.now();
          // In parallel: a sweep can take long.
          sweeping = attempt('sweeping', sweep).finally(() => {
            sweeping = null;
          });
        }
        await sleep(intervalMs, undefined, { signal }).catch(() => undefined);
      }
      publisher.stop();
      const ended = Promise.all([publisher.idle(), sweeping]).then(() => true);
      const isOver = await Promise.race([ended, sleep(graceMs, false, { ref: false })]);
      if (isOver) await attempt('closing', () => publisher.close());
      else onEvent({ event: 'abandoned', running: publisher.load().running });
    },

    health() {
      const latest = lastSuccess ?? begunAt;
      const patienceMs = Math.max(unhealthyMs, unhealthyIntervals * intervalMs);
      return {
        ok: Date.now() - latest <= patienceMs,
        lastSuccess: lastSuccess === null ? null : new Date(lastSuccess).toISOString(),
        lastFailure,
        ...publisher.load(),
      };
    },
  };
}

function nameOf({ upload, batch }: BatchId): string {
  return `${upload}/${batch}`;
}
