/**
 * Runs `work` on every item, at most `limit` at a time. After a failure it starts no more, waits for
 * the running ones, and throws the first failure.
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
 * Runs `work` on every item of `source`, at most `limit` at a time, and takes no items in advance.
 * After a failure it starts no more, waits for the running ones, and throws the first failure.
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

/** Returns a function that runs the given work in order, at most `limit` at a time. */
export function createLimit(limit: number): <T>(work: () => Promise<T>) => Promise<T> {
  const waiting: (() => void)[] = [];
  let running = 0;
  return async (work) => {
    if (running < limit) running += 1;
    // The work that ends hands over its slot, so `running` stays the same.
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
 * Coalesces items into groups. Items that arrive in one turn of the event loop form a group; items
 * that arrive while `work` runs form the next group, which starts afterwards.
 *
 * @param work must not reject
 * @returns a function that adds an item and returns immediately
 */
export function createCoalescer<T>(work: (group: readonly T[]) => Promise<void>): (one: T) => void {
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
    // Callers in this turn of the event loop come first.
    setImmediate(() => void run());
  };
}
