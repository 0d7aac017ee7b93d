import { toError } from '../errors.ts';

/** Work that a {@link TaskQueue} runs in its turn. */
export interface Task {
  /** Identifies the work. A key is queued once and runs once at a time. */
  readonly key: string;
  /**
   * Whether to queue the task while a task with its key runs, because that one may have started too
   * early to see what this one is about.
   */
  readonly repeats: boolean;
  /** When the first queued task is in a group, the task of the group with the lowest rank runs next. */
  readonly order?: { readonly group: string; readonly rank: number };
  readonly run: () => Promise<void>;
}

export interface TaskQueueOptions<T extends Task> {
  /** The largest number of tasks that run at once. */
  readonly concurrency: number;
  /** Receives each task that has ended, with what it threw. */
  readonly onEnded: (task: T, failure: Error | null) => void;
}

/** Runs tasks, a few at a time, and knows which keys are queued or running. */
export interface TaskQueue<T extends Task> {
  /** Queues a task, unless its key is queued already, or runs and the task does not repeat. */
  add(task: T): void;
  /**
   * Runs `work` at once under `key`, not counted in `concurrency`.
   *
   * @returns null, without running it, when the key is queued or running
   */
  runNow<R>(key: string, work: () => Promise<R>): Promise<R | null>;
  /** Drops the queued tasks for which `matches` returns true. */
  drop(matches: (task: T) => boolean): void;
  /** Waits until no task is queued or running. Work of {@link runNow} is not waited for. */
  waitUntilIdle(): Promise<void>;
  count(): { readonly queued: number; readonly running: number };
}

export function createTaskQueue<T extends Task>(options: TaskQueueOptions<T>): TaskQueue<T> {
  const { concurrency, onEnded } = options;
  /** By key, in the order in which they were added. */
  const queued = new Map<string, T>();
  const runningKeys = new Set<string>();
  let running = 0;
  let waiters: (() => void)[] = [];

  function takeNext(): T | undefined {
    const ready = [...queued.values()].filter(({ key }) => !runningKeys.has(key));
    const [first] = ready;
    if (!first) return undefined;
    const next = ready.reduce((lowest, task) => (isBefore(task, lowest) ? task : lowest), first);
    queued.delete(next.key);
    return next;
  }

  async function hold<R>(key: string, work: () => Promise<R>): Promise<R> {
    runningKeys.add(key);
    try {
      return await work();
    } finally {
      runningKeys.delete(key);
    }
  }

  async function execute(task: T): Promise<void> {
    let failure: Error | null = null;
    try {
      await hold(task.key, task.run);
    } catch (error) {
      failure = toError(error);
    }
    onEnded(task, failure);
    running -= 1;
    runWaiting();
  }

  function runWaiting(): void {
    while (running < concurrency) {
      const task = takeNext();
      if (!task) break;
      running += 1;
      void execute(task);
    }
    if (running > 0 || queued.size > 0) return;
    for (const wake of waiters) wake();
    waiters = [];
  }

  return {
    add(task) {
      if (queued.has(task.key) || (runningKeys.has(task.key) && !task.repeats)) return;
      queued.set(task.key, task);
      runWaiting();
    },
    async runNow(key, work) {
      if (queued.has(key) || runningKeys.has(key)) return null;
      try {
        return await hold(key, work);
      } finally {
        // A task with this key may have been added meanwhile.
        runWaiting();
      }
    },
    drop(matches) {
      for (const task of [...queued.values()]) if (matches(task)) queued.delete(task.key);
      runWaiting();
    },
    async waitUntilIdle() {
      if (running === 0 && queued.size === 0) return;
      await new Promise<void>((resolve) => waiters.push(resolve));
    },
    count: () => ({ queued: queued.size, running }),
  };
}

function isBefore({ order: one }: Task, { order: other }: Task): boolean {
  return one !== undefined && one.group === other?.group && one.rank < other.rank;
}
