import { NicheError } from '../../core/errors.ts';
import type { BucketHooks, BucketOperation } from '../support/buckets/memory-bucket.ts';
import type { Random } from './random.ts';

/** One operating-system process. A dead one does nothing more. */
export interface SimulatedProcess {
  readonly name: string;
  isAlive: boolean;
}

/**
 * What happens to an operation. `throttled`: it fails without effect. `lost`: it takes effect, and its
 * caller gets an error. `died`: its process dies right after the effect.
 */
export type Fault = 'throttled' | 'lost' | 'died';

/** An operation that has not taken effect, or whose answer its caller has not received. */
interface Pending {
  readonly process: SimulatedProcess;
  readonly label: string;
  readonly isAnswer: boolean;
  readonly proceed: () => void;
  readonly refuse: (error: Error) => void;
}

/** Decides the order of all storage operations of all processes. */
export interface Scheduler {
  /** Hooks for a bucket of the process. `onEffect` runs after each effect, in the same step. */
  hooks(process: SimulatedProcess, root: string, onEffect: OnEffect): BucketHooks;
  /** Runs one pending operation and everything that it leads to. Returns false when there is none. */
  step(fault: Fault | null): Promise<boolean>;
  /** Ends a process. Its requests in flight may still take effect later. */
  kill(process: SimulatedProcess): void;
  /** Drops the requests in flight of dead processes. */
  dropOrphans(): void;
  /** Waits until all processes wait for the scheduler. */
  settle(): Promise<void>;
  /** From now on operations take effect at once: nothing is left to decide. */
  release(): void;
  count(): number;
}

export type OnEffect = (operation: BucketOperation, key: string) => void;

export interface SchedulerOptions {
  readonly random: Random;
  /** How often an operation of the same process follows, from 0 to 1. */
  readonly stickiness: number;
  /** How often an answer arrives only after other operations, from 0 to 1. */
  readonly lateness: number;
  /** Whether the order of an operation matters. Others take effect at once. */
  readonly isScheduled: (root: string, key: string) => boolean;
  readonly trace: (line: string) => void;
}

export function createScheduler(options: SchedulerOptions): Scheduler {
  const { random, stickiness, lateness, isScheduled, trace } = options;
  const pending: Pending[] = [];
  let last: SimulatedProcess | undefined;
  let fault: Fault | null = null;
  let isReleased = false;

  /** Waits until the schedule chooses this operation. */
  function wait(process: SimulatedProcess, label: string, isAnswer: boolean): Promise<void> {
    return new Promise((proceed, refuse) => {
      if (process.isAlive) pending.push({ process, label, isAnswer, proceed, refuse });
    });
  }

  function takeNext(): Pending | undefined {
    if (pending.length === 0) return undefined;
    let at = -1;
    if (last && random.chance(stickiness))
      at = pending.findIndex(({ process }) => process === last);
    if (at < 0) at = random.below(pending.length);
    return pending.splice(at, 1)[0];
  }

  function kill(process: SimulatedProcess): void {
    process.isAlive = false;
    trace(`${process.name} dies`);
    for (let at = pending.length - 1; at >= 0; at -= 1) {
      const one = pending[at]!;
      if (one.process === process && (one.isAnswer || random.chance(0.7))) pending.splice(at, 1);
    }
  }

  return {
    hooks: (process, root, onEffect) => ({
      before(operation, key) {
        if (!process.isAlive) return new Promise(() => undefined);
        const label = `${operation} ${root}:${key}`;
        if (!isReleased && isScheduled(root, key)) return wait(process, label, false);
        trace(`${process.name} ${label}`);
        return undefined;
      },
      after(operation, key) {
        onEffect(operation, key);
        if (isReleased || !isScheduled(root, key)) return undefined;
        const current = fault;
        fault = null;
        if (current === 'died' && process.isAlive) kill(process);
        if (!process.isAlive) return new Promise(() => undefined);
        if (current === 'lost') throw unavailable('no answer');
        if (random.chance(lateness)) return wait(process, `answer ${root}:${key}`, true);
        return undefined;
      },
    }),

    async step(nextFault) {
      const chosen = takeNext();
      if (chosen === undefined) return false;
      const { process, label, isAnswer, proceed, refuse } = chosen;
      last = process;
      const isFaulty = nextFault !== null && process.isAlive && !isAnswer;
      trace(`${process.name} ${label}${isFaulty ? ` (${nextFault})` : ''}`);
      if (isFaulty && nextFault === 'throttled') refuse(unavailable('throttled'));
      else {
        fault = isFaulty ? nextFault : null;
        proceed();
      }
      await drainMicrotasks();
      return true;
    },
    kill,
    settle: drainMicrotasks,
    release() {
      isReleased = true;
    },
    dropOrphans() {
      for (let at = pending.length - 1; at >= 0; at -= 1) {
        if (!pending[at]!.process.isAlive) pending.splice(at, 1);
      }
    },
    count: () => pending.length,
  };
}

/**
 * Waits until all processes wait for the scheduler. Node runs a callback of `nextTick` once no
 * microtask is left, which costs no turn of the event loop.
 */
export function drainMicrotasks(): Promise<void> {
  return new Promise((resolve) => {
    queueMicrotask(() => {
      process.nextTick(resolve);
    });
  });
}

function unavailable(what: string): NicheError {
  return new NicheError('storage-unavailable', `injected: ${what}`);
}
