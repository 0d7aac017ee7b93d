import { Worker } from 'node:worker_threads';
import type { FailedSchedule, Progress, WorkerOrder } from './worker.ts';

export interface RunOrder {
  readonly scenario: string | undefined;
  readonly mutation: string | undefined;
  readonly seed: number;
  readonly schedules: number;
  /** How many run at once. */
  readonly workers: number;
  /** When it is aborted, the workers end, and their reports so far count. */
  readonly signal: AbortSignal;
}

export interface RunReport {
  readonly schedules: number;
  readonly steps: number;
  /** The number of schedules by scenario. */
  readonly counts: ReadonlyMap<string, number>;
  readonly failures: readonly FailedSchedule[];
}

/** A worker is replaced after this many schedules, so that its memory does not grow for hours. */
const maxSchedulesPerWorker = 20_000;
/** After this many failures no more schedules run. */
const maxFailures = 10;

/**
 * Runs schedules in parallel.
 *
 * @param onProgress called with what is done so far, after every report of a worker
 * @throws the error of a worker that crashed
 */
export async function runAll(
  order: RunOrder,
  onProgress: (report: RunReport) => void,
): Promise<RunReport> {
  const counts = new Map<string, number>();
  const failures: FailedSchedule[] = [];
  let steps = 0;
  let schedules = 0;
  const report = (): RunReport => ({ schedules, steps, counts, failures });
  const orders = splitOrder(order);
  const stop = new AbortController();
  const signal = AbortSignal.any([order.signal, stop.signal]);

  function count(progress: Progress): void {
    steps += progress.steps;
    for (const [scenario, number] of progress.counts) {
      schedules += number;
      counts.set(scenario, (counts.get(scenario) ?? 0) + number);
    }
    failures.push(...progress.failures);
    if (failures.length >= maxFailures) stop.abort();
    onProgress(report());
  }

  async function runOrders(): Promise<void> {
    for (let next = orders.shift(); next && !signal.aborted; next = orders.shift()) {
      await runWorker(next, signal, count);
    }
  }

  await Promise.all(Array.from({ length: order.workers }, runOrders));
  return report();
}

function splitOrder({ scenario, mutation, seed, schedules, workers }: RunOrder): WorkerOrder[] {
  const size = Math.min(maxSchedulesPerWorker, Math.ceil(schedules / workers));
  return Array.from({ length: Math.ceil(schedules / size) }, (_, index) => ({
    scenario,
    mutation,
    firstSeed: seed + index * size,
    schedules: Math.min(size, schedules - index * size),
  }));
}

function runWorker(
  order: WorkerOrder,
  signal: AbortSignal,
  onProgress: (progress: Progress) => void,
): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<undefined>();
  const worker = new Worker(new URL('worker.ts', import.meta.url), {
    workerData: order,
    // Most objects of a schedule die young.
    resourceLimits: { maxYoungGenerationSizeMb: 96 },
  });
  const end = (): void => void worker.terminate();
  signal.addEventListener('abort', end);
  worker.on('message', onProgress);
  worker.on('error', reject);
  worker.on('exit', () => {
    signal.removeEventListener('abort', end);
    resolve(undefined);
  });
  return promise;
}
