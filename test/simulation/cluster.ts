import { isNicheError } from '../../core/errors.ts';
import { InvariantError } from '../support/cache/invariants.ts';
import type { Actor, Role } from './checks.ts';
import type { Random } from './random.ts';
import type { Scheduler, SimulatedProcess } from './scheduler.ts';

/** Work of one process. It is done again until it succeeds. */
export interface Job {
  readonly name: string;
  readonly role: Role;
  readonly run: (process: ClusterProcess) => Promise<unknown>;
  /** Called when it has succeeded. */
  readonly onDone?: () => void;
}

interface RunningJob {
  readonly job: Job;
  readonly startedAtMs: number;
  readonly startedAtStep: number;
}

export interface ClusterProcess extends SimulatedProcess, Actor {
  readonly running: Set<RunningJob>;
}

/** The processes of a deployment, the queue between them, and the clock. */
export interface Cluster {
  readonly now: () => Date;
  readonly step: () => number;
  readonly processes: readonly ClusterProcess[];
  enqueue(job: Job): void;
  /** Starts a queued job in a process. */
  startNext(): void;
  /** Whether no job is queued, and none runs. */
  isIdle(): boolean;
  queued(): number;
  /** The attempts of publishers and sweeps that ended with their process, which may have had two. */
  cutOff(): number;
  /** Counts a step, which takes a moment. */
  tick(): void;
  /**
   * Advances the clock. Publishers are ended at their time limit, and requests in flight too.
   *
   * @returns the number of ended publishers
   */
  advance(ms: number): number;
  /** Ends a process. Its jobs are queued again. */
  kill(process: ClusterProcess): void;
}

export interface ClusterOptions {
  readonly random: Random;
  readonly scheduler: Scheduler;
  readonly timeLimitMs: number;
  readonly trace: (line: string) => void;
  readonly onFailure: (error: unknown) => void;
}

const maxPublishers = 3;
/** As in a worker. */
const jobsAtOnce = 2;
const stepMs = 20;
/** A job that fails this often without a fault would fail for ever. */
const maxFailures = 60;

export function createCluster(options: ClusterOptions): Cluster {
  const { random, scheduler, timeLimitMs, trace, onFailure } = options;
  const processes: ClusterProcess[] = [];
  const queue: Job[] = [];
  const failures = new Map<Job, number>();
  let timeMs = Date.UTC(2026, 0, 1);
  let steps = 0;
  let started = 0;
  let cutOff = 0;

  function createProcess(role: Role): ClusterProcess {
    const running = new Set<RunningJob>();
    started += 1;
    const created: ClusterProcess = {
      name: `${role}-${started}`,
      role,
      isAlive: true,
      running,
      get busySince() {
        return Math.min(steps, ...[...running].map(({ startedAtStep }) => startedAtStep));
      },
    };
    processes.push(created);
    return created;
  }

  /** Publishers handle one job after the other. Every other job has a process of its own. */
  function chooseProcess(role: Role): ClusterProcess {
    if (role !== 'publisher') return createProcess(role);
    const publishers = processes.filter((one) => one.role === 'publisher');
    const free = publishers.filter(({ running }) => running.size < jobsAtOnce);
    const isFull = publishers.length >= maxPublishers;
    if (free.length > 0 && (isFull || random.chance(0.6))) return random.pick(free);
    if (isFull) return random.pick(publishers);
    return createProcess(role);
  }

  async function run(job: Job, worker: ClusterProcess): Promise<void> {
    const running = { job, startedAtMs: timeMs, startedAtStep: steps };
    worker.running.add(running);
    trace(`${worker.name} starts: ${job.name}`);
    try {
      await job.run(worker);
      trace(`${worker.name} has done: ${job.name}`);
      job.onDone?.();
    } catch (error) {
      if (!isNicheError(error, 'storage-unavailable', 'changed-meanwhile')) onFailure(error);
      trace(`${worker.name} failed: ${job.name}: ${String(error)}`);
      retry(job);
    } finally {
      worker.running.delete(running);
      if (worker.role !== 'publisher') remove(worker);
    }
  }

  function retry(job: Job): void {
    const count = (failures.get(job) ?? 0) + 1;
    failures.set(job, count);
    if (count > maxFailures) onFailure(new InvariantError(`progress: ${job.name} never succeeds`));
    else queue.push(job);
  }

  function remove(worker: ClusterProcess): void {
    const at = processes.indexOf(worker);
    if (at >= 0) processes.splice(at, 1);
  }

  function reap(worker: ClusterProcess): void {
    if (worker.isAlive) scheduler.kill(worker);
    remove(worker);
    if (worker.role === 'publisher' || worker.role === 'sweep') cutOff += worker.running.size;
    // It keeps its jobs: its last requests may still take effect, and are judged by when they began.
    for (const { job } of worker.running) queue.push(job);
  }

  return {
    now: () => new Date(timeMs),
    step: () => steps,
    processes,
    enqueue: (job) => void queue.push(job),
    startNext() {
      const [job] = queue.splice(random.below(queue.length), 1);
      if (job) void run(job, chooseProcess(job.role));
    },
    queued: () => queue.length,
    cutOff: () => cutOff,
    isIdle: () => queue.length === 0 && processes.every(({ running }) => running.size === 0),
    tick() {
      steps += 1;
      timeMs += stepMs;
      for (const worker of [...processes]) if (!worker.isAlive) reap(worker);
    },
    advance(ms) {
      timeMs += ms;
      trace(`the clock advances by ${ms / 60_000} minutes`);
      const isOverdue = ({ startedAtMs }: RunningJob): boolean =>
        timeMs - startedAtMs >= timeLimitMs;
      const overdue = processes.filter(({ running }) => [...running].some(isOverdue));
      overdue.forEach(reap);
      scheduler.dropOrphans();
      return overdue.length;
    },
    kill: reap,
  };
}
