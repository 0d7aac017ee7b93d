/** A queue with one reader, which gets the items in order, then the end or the error. */
export interface Queue<T> {
  readonly push: (item: T) => void;
  readonly end: () => void;
  /** Ends the queue with `error`, after the items pushed before. */
  readonly fail: (error: unknown) => void;
  readonly items: AsyncIterable<T>;
}

export function createQueue<T>(): Queue<T> {
  const waiting: T[] = [];
  let ending: { readonly error?: unknown } | undefined;
  let wake: () => void = () => undefined;
  const finish = (how: { readonly error?: unknown }): void => {
    ending ??= how;
    wake();
  };
  async function* read(): AsyncGenerator<T> {
    while (true) {
      yield* waiting.splice(0);
      if (waiting.length > 0) continue;
      if (ending !== undefined) {
        if ('error' in ending) throw ending.error;
        return;
      }
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  }
  return {
    push: (item) => {
      waiting.push(item);
      wake();
    },
    end: () => {
      finish({});
    },
    fail: (error) => {
      finish({ error });
    },
    items: read(),
  };
}
