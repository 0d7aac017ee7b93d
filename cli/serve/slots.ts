/** Limits requests in flight, in total and for each client. */
export interface Slots {
  /** Waits for a slot. Returns a function that frees it. */
  acquire(client: string): Promise<() => void>;
}

/** A request that waits for a slot. */
interface Waiter {
  readonly client: string;
  readonly start: () => void;
}

/**
 * Returns slots that requests get in order, except that a client with as many as it may have waits and
 * lets others pass: so no client takes them all.
 */
export function createSlots(limits: { readonly total: number; readonly perClient: number }): Slots {
  const waiting: Waiter[] = [];
  const taken = new Map<string, number>();
  let free = limits.total;

  function mayTake(client: string): boolean {
    return free > 0 && (taken.get(client) ?? 0) < limits.perClient;
  }

  function take(client: string): void {
    free -= 1;
    taken.set(client, (taken.get(client) ?? 0) + 1);
  }

  function release(client: string): void {
    free += 1;
    const left = (taken.get(client) ?? 1) - 1;
    if (left === 0) taken.delete(client);
    else taken.set(client, left);
    const index = waiting.findIndex((waiter) => mayTake(waiter.client));
    const [next] = index < 0 ? [] : waiting.splice(index, 1);
    if (next === undefined) return;
    take(next.client);
    next.start();
  }

  return {
    async acquire(client) {
      if (mayTake(client)) take(client);
      else await new Promise<void>((start) => waiting.push({ client, start }));
      return () => {
        release(client);
      };
    },
  };
}
