/**
 * What a process publishes at once. A path whose reference another batch of it is about to publish had
 * better wait a moment than be parked, which costs some ten requests.
 */
export interface InFlightBatches {
  /** Runs `work` on a batch, whose paths are under way until they are decided or it ends. */
  runBatch<T>(paths: readonly string[], work: (batch: InFlightBatch) => Promise<T>): Promise<T>;
}

export interface InFlightBatch {
  /**
   * Waits until it is decided what becomes of those of the paths that are under way in batches which were
   * begun before this one. Not in later ones, so that no two wait for each other.
   */
  waitForEarlier(paths: Iterable<string>): Promise<void>;
  /** Says that this batch's narinfos are there, as far as they come. */
  markDecided(): void;
}

export function createInFlightBatches(): InFlightBatches {
  const batches = new Map<string, { readonly number: number; readonly decided: Promise<null> }>();
  let begun = 0;

  return {
    async runBatch(paths, work) {
      const number = (begun += 1);
      const { promise: decided, resolve: decide } = Promise.withResolvers<null>();
      // Of two batches with one path the earlier has it: its end is sure to come.
      const own = paths.filter((path) => !batches.has(path));
      for (const path of own) batches.set(path, { number, decided });
      const earlier = (path: string): Promise<null>[] => {
        const other = batches.get(path);
        return other && other.number < number ? [other.decided] : [];
      };
      try {
        return await work({
          markDecided: () => {
            decide(null);
          },
          async waitForEarlier(others) {
            await Promise.all(new Set([...others].flatMap(earlier)));
          },
        });
      } finally {
        for (const path of own) batches.delete(path);
        decide(null);
      }
    },
  };
}
