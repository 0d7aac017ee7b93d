import { toError } from '../../errors.ts';
import { createBatching, isLarge } from './batcher.ts';
import type { LocalPath } from './local-path.ts';
import { createBatchStaging } from './batch-upload.ts';
import type { Batch, BatchOptions } from './batch-upload.ts';

/** One client session: stages paths in batches as they come. */
export interface Stager {
  readonly upload: string;
  /** Takes a path; returns at once. References should come before what refers to them. */
  add(path: LocalPath): void;
  /**
   * Stages what still waits for company and waits for everything that was added.
   *
   * @throws the first failure of storage
   */
  finish(): Promise<void>;
}

export interface StagerOptions extends BatchOptions {
  readonly upload: string;
  /** How long a small path waits for company, in milliseconds. @default 1,000 */
  readonly lingerMs?: number;
  /** Batches that are being staged at once. @default 4 */
  readonly batchesAtOnce?: number;
}

interface QueuedBatch extends Batch {
  /** Called once it has a manifest, or will have none. */
  readonly ended: () => void;
}

export function createStager(options: StagerOptions): Stager {
  const { upload, onFailed, lingerMs = 1000, batchesAtOnce = 4 } = options;
  const stage = createBatchStaging(options);
  const batching = createBatching({ lingerMs, onBatch: submit, onFailed });
  const queue: QueuedBatch[] = [];
  /** The ends of small batches that are not through yet, by the paths that these hold. */
  const ends = new Map<string, Promise<unknown>>();
  let batches = 0;
  let running = 0;
  let failure: Error | undefined;
  let settled = Promise.withResolvers<undefined>();

  function submit(paths: readonly LocalPath[]): void {
    const references = paths.flatMap(({ info }) => info.references);
    const after = [...new Set(references.flatMap((path) => ends.get(path) ?? []))];
    const end = Promise.withResolvers<undefined>();
    for (const { info } of paths) {
      // A large NAR may take longer than all the others: nothing waits for it.
      if (!isLarge(info)) ends.set(info.path, end.promise);
    }
    const ended = (): void => {
      end.resolve(undefined);
      for (const { info } of paths) if (ends.get(info.path) === end.promise) ends.delete(info.path);
    };
    queue.push({ id: { upload, batch: batches }, paths, after, ended });
    batches += 1;
    pump();
  }

  function pump(): void {
    while (running < batchesAtOnce) {
      const batch = queue.shift();
      if (!batch) break;
      running += 1;
      void stage(batch)
        .catch((error: unknown) => {
          failure ??= toError(error);
          for (const { info } of batch.paths) onFailed(info, error);
        })
        .finally(() => {
          batch.ended();
          running -= 1;
          pump();
        });
    }
    if (running === 0 && queue.length === 0) settled.resolve(undefined);
  }

  return {
    upload,
    add: (path) => {
      batching.add(path);
    },
    async finish() {
      batching.flush();
      settled = Promise.withResolvers<undefined>();
      pump();
      await settled.promise;
      if (failure) throw failure;
    },
  };
}
