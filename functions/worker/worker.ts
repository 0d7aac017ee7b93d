import { setTimeout as sleep } from 'node:timers/promises';

import type { Origin } from '../../core/cache/audit.ts';
import type { BatchId } from '../../core/cache/layout.ts';
import type { LocalPublisher, PublisherLoad } from '../../core/cache/publish/local-publisher.ts';
import { isNicheError, toError } from '../../core/errors.ts';

export interface WorkerOptions {
  /** Opens the publisher; `onEnded` hears how each task of its queue ended. */
  readonly open: (onEnded: OnEnded) => LocalPublisher;
  /** Between two looks at what is staged, in milliseconds. */
  readonly intervalMs: number;
  /** Between two sweeps, in milliseconds. */
  readonly sweepIntervalMs: number;
  /** How long what is under way may take once the worker is to stop, in milliseconds. */
  readonly graceMs: number;
  readonly onEvent: (event: WorkerEvent) => void;
}

/** @param id the batch; null for a path that was resumed */
type OnEnded = (id: BatchId | null, failure: Error | null) => void;

/** What a worker has to say, beside what became of each path. */
export type WorkerEvent =
  | { readonly event: 'failed'; readonly action: string; readonly error: Error }
  | { readonly event: 'recovered'; readonly action: string }
  | { readonly event: 'swept'; readonly deleted: number }
  /** Something is left under way: its marker will tell of it. */
  | { readonly event: 'abandoned'; readonly running: number };

/** How a worker fares. */
export interface Health extends PublisherLoad {
  /** Whether storage has answered lately. */
  readonly ok: boolean;
  /** When something last went well, ISO 8601; null before that. */
  readonly lastSuccess: string | null;
  /** The code of what failed since; null when nothing has. */
  readonly lastFailure: string | null;
}

/** Publishes what is staged for as long as it runs. */
export interface Worker {
  /** Takes a batch of which a notification tells; returns at once. */
  readonly submit: (id: BatchId, origin: Origin) => void;
  /** Works until `signal` is aborted, and then until what is under way has ended. */
  run(signal: AbortSignal): Promise<void>;
  readonly health: () => Health;
}

/** A batch that fails is left alone for a while, which doubles each time up to this, in milliseconds. */
const maxHoldMs = 5 * 60 * 1000;
const firstHoldMs = 1_000;
/** Intervals without any success after which a worker is no longer healthy, and at least this time. */
const unhealthyIntervals = 3;
const unhealthyMs = 60_000;

/**
 * Notifications are a hint and may be lost: what is staged is listed as well, on an interval. A
 * failure ends nothing, since an outage ends some time and what failed stays staged.
 */
export function createWorker(options: WorkerOptions): Worker {
  const { intervalMs, sweepIntervalMs, graceMs, onEvent } = options;
  const held = new Map<string, { until: number; holdMs: number }>();
  const failing = new Set<string>();
  const begunAt = Date.now();
  let lastSuccess: number | null = null;
  let lastFailure: string | null = null;

  const publisher = options.open((id, failure) => {
    note(id === null ? 'resuming a path' : `publishing batch ${nameOf(id)}`, failure);
    if (id === null) return;
    const name = nameOf(id);
    if (failure === null) held.delete(name);
    else {
      const holdMs = Math.min(maxHoldMs, (held.get(name)?.holdMs ?? firstHoldMs / 2) * 2);
      held.set(name, { until: Date.now() + holdMs * (0.5 + Math.random() / 2), holdMs });
    }
  });

  /** Tells of a failure once, however often it is repeated, and of its end. */
  function note(action: string, failure: Error | null): void {
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
      note(action, null);
    } catch (error) {
      note(action, toError(error));
    }
  }

  function isDue(id: BatchId): boolean {
    return (held.get(nameOf(id))?.until ?? 0) <= Date.now();
  }

  async function look(): Promise<void> {
    const staged = new Set<string>();
    await publisher.submitStaged((id) => {
      staged.add(nameOf(id));
      return isDue(id);
    });
    // Another worker may have published what failed here.
    for (const name of held.keys()) if (!staged.has(name)) held.delete(name);
  }

  async function sweep(): Promise<void> {
    const { deleted } = await publisher.sweep();
    if (deleted > 0) onEvent({ event: 'swept', deleted });
  }

  return {
    submit(id, origin) {
      if (isDue(id)) publisher.submit(id, origin);
    },

    async run(signal) {
      let sweptAt = -Infinity;
      let sweeping: Promise<void> | null = null;
      while (!signal.aborted) {
        await attempt('listing what is staged', look);
        if (sweeping === null && Date.now() - sweptAt >= sweepIntervalMs) {
          sweptAt = Date.now();
          // Beside the rest: it may come upon a lot to do.
          sweeping = attempt('sweeping', sweep).finally(() => {
            sweeping = null;
          });
        }
        await sleep(intervalMs, undefined, { signal }).catch(() => undefined);
      }
      publisher.stop();
      const ended = Promise.all([publisher.idle(), sweeping]).then(() => true);
      const isOver = await Promise.race([ended, sleep(graceMs, false, { ref: false })]);
      if (isOver) await attempt('ending', () => publisher.close());
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
