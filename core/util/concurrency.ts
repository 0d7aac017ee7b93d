/**
 * Runs `work` on every item, at most `limit` at a time. After a failure nothing new is begun; what
 * runs is waited for, and then the first failure is thrown.
 *
 * @returns the results in the items' order
 */
export async function mapConcurrent<T, R>(
  items: readonly T[],
  limit: number,
  work: (item: T, index: number) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  const failures: unknown[] = [];
  let next = 0;

  async function worker(): Promise<void> {
    while (next < items.length && failures.length === 0) {
      const index = next;
      next += 1;
      try {
        results[index] = await work(items[index] as T, index);
      } catch (error) {
        failures.push(error);
      }
    }
  }

  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, worker));
  if (failures.length > 0) throw failures[0];
  return results;
}

/**
 * Runs `work` on every item as `source` yields them, at most `limit` at a time: no more items are
 * taken than are worked on. After a failure nothing new is begun; what runs is waited for, and then
 * the first failure is thrown.
 */
export async function eachConcurrent<T>(
  source: AsyncIterable<T>,
  limit: number,
  work: (item: T) => Promise<unknown>,
): Promise<void> {
  const running = new Set<Promise<void>>();
  const failures: unknown[] = [];
  try {
    for await (const item of source) {
      const task: Promise<void> = work(item)
        .then(
          () => undefined,
          (error: unknown) => void failures.push(error),
        )
        .finally(() => running.delete(task));
      running.add(task);
      if (running.size >= limit) await Promise.race(running);
      if (failures.length > 0) break;
    }
  } finally {
    await Promise.all(running);
  }
  if (failures.length > 0) throw failures[0];
}

/** Runs what it is given, at most `limit` at a time, in the order in which it came. */
export function createLimit(limit: number): <T>(work: () => Promise<T>) => Promise<T> {
  const waiting: (() => void)[] = [];
  let running = 0;
  return async (work) => {
    if (running < limit) running += 1;
    // Whoever has ended hands over its place.
    else await new Promise<void>((resolve) => waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = waiting.shift();
      if (next) next();
      else running -= 1;
    }
  };
}

/**
 * Gathers what comes at once into groups: what comes while one is worked on, not even begun, is the next.
 *
 * @param work never rejects
 * @returns what takes one more, and returns at once
 */
export function createGathering<T>(work: (group: readonly T[]) => Promise<void>): (one: T) => void {
  let waiting: T[] = [];
  let isRunning = false;

  async function run(): Promise<void> {
    while (waiting.length > 0) {
      const group = waiting;
      waiting = [];
      await work(group);
    }
    isRunning = false;
  }

  return (one) => {
    waiting.push(one);
    if (isRunning) return;
    isRunning = true;
    // Not before everyone who has something by now has said so.
    setImmediate(() => void run());
  };
}
