/**
 * The paths that this process is publishing. A path whose reference is in another batch in flight
 * waits for it a moment. Parking it instead would cost some ten requests.
 */
export interface InFlightBatches {
  /** Runs `work` on a batch. Its paths are in flight until they are decided or the work ends. */
  runBatch<T>(paths: readonly string[], work: (batch: InFlightBatch) => Promise<T>): Promise<T>;
}

export interface InFlightBatch {
  /**
   * Waits for earlier batches of this process to decide the given paths. Later batches are ignored,
   * so two batches cannot deadlock.
   */
  waitForEarlier(paths: Iterable<string>): Promise<void>;
  /** Ends the wait of other batches: this batch has created the narinfos that it could. */
  markDecided(): void;
}

export function createInFlightBatches(): InFlightBatches {
  const batches = new Map<string, { readonly number: number; readonly decided: Promise<null> }>();
  let lastNumber = 0;

  return {
    async runBatch(paths, work) {
      const number = (lastNumber += 1);
      const { promise: decided, resolve: decide } = Promise.withResolvers<null>();
      // Of two batches with the same path the earlier one keeps it, so that waiting for it ends.
      const own = paths.filter((path) => !batches.has(path));
      for (const path of own) batches.set(path, { number, decided });
      const findEarlier = (path: string): Promise<null>[] => {
        const other = batches.get(path);
        return other && other.number < number ? [other.decided] : [];
      };
      try {
        return await work({
          markDecided: () => {
            decide(null);
          },
          async waitForEarlier(others) {
            await Promise.all(new Set([...others].flatMap(findEarlier)));
          },
        });
      } finally {
        for (const path of own) batches.delete(path);
        decide(null);
      }
    },
  };
}
