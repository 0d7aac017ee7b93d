/**
 * What a process publishes at once. A path whose reference another batch of it is about to publish had
 * better wait a moment than be parked, which costs some ten requests.
 */
export interface UnderWay {
  /** Runs `work` on a batch, whose paths are under way until they are decided or it ends. */
  run<T>(paths: readonly string[], work: (batch: BatchUnderWay) => Promise<T>): Promise<T>;
}

export interface BatchUnderWay {
  /**
   * Waits until it is decided what becomes of those of the paths that are under way in batches which were
   * begun before this one. Not in later ones, so that no two wait for each other.
   */
  untilDecided(paths: Iterable<string>): Promise<void>;
  /** Says that this batch's narinfos are there, as far as they come. */
  decide(): void;
}

export function createUnderWay(): UnderWay {
  const batches = new Map<string, { readonly number: number; readonly decided: Promise<null> }>();
  let begun = 0;

  return {
    async run(paths, work) {
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
          decide: () => {
            decide(null);
          },
          async untilDecided(others) {
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
