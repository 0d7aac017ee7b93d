import { toError } from '../../errors.ts';
import { maxBatchRealisations } from '../../limits.ts';
import { realisationName } from '../../nix/realisation.ts';
import type { Realisation } from '../../nix/realisation.ts';
import { createBatchUploader } from './batch-upload.ts';
import type { Batch, BatchUploadOptions } from './batch-upload.ts';
import { createBatcher, isLarge } from './batcher.ts';
import type { LocalPath } from './local-path.ts';

/** A client session that stages paths in batches as they arrive. */
export interface Stager {
  /** The session's upload ID. */
  readonly upload: string;
  /** Adds a path and returns at once. Add references before the paths that refer to them. */
  addPath(path: LocalPath): void;
  /** Stages realisations, after the batches of their outputs that were begun before. */
  addRealisations(realisations: readonly Realisation[]): void;
  /**
   * Stages the pending paths, and waits for every batch.
   *
   * @throws NicheError the first failure of a batch: `storage-…`, `aborted`
   */
  finish(): Promise<void>;
}

export interface StagerOptions extends BatchUploadOptions {
  readonly upload: string;
  /** How long a small path waits for others to share a batch with, in milliseconds. @default 1,000 */
  readonly lingerMs?: number;
  /** Batches uploaded at once. @default 4 */
  readonly batchesAtOnce?: number;
}

interface QueuedBatch extends Batch {
  /** Called once the batch has a manifest, or has failed. */
  readonly onEnd: () => void;
}

export function createStager(options: StagerOptions): Stager {
  const { upload, storeDir, onFailed, lingerMs = 1000, batchesAtOnce = 4 } = options;
  const uploadBatch = createBatchUploader(options);
  const batcher = createBatcher({ storeDir, lingerMs, onBatch: submit, onFailed });
  const queue: QueuedBatch[] = [];
  /** For each path of a small batch that has not ended: settles when that batch ends. */
  const ends = new Map<string, Promise<unknown>>();
  let batches = 0;
  let running = 0;
  let failure: Error | undefined;
  let idle = Promise.withResolvers<undefined>();

  /** Returns when the batches that hold these paths end. */
  function endsOf(paths: readonly string[]): Promise<unknown>[] {
    return [...new Set(paths.flatMap((path) => ends.get(path) ?? []))];
  }

  function enqueue(batch: Omit<QueuedBatch, 'id'>): void {
    queue.push({ id: { upload, batch: batches }, ...batch });
    batches += 1;
    pump();
  }

  function submit(paths: readonly LocalPath[]): void {
    const after = endsOf(paths.flatMap(({ info }) => info.references));
    const end = Promise.withResolvers<undefined>();
    for (const { info } of paths) {
      // A large NAR may take longer than everything else, so no batch waits for one.
      if (!isLarge(info)) ends.set(info.path, end.promise);
    }
    const onEnd = (): void => {
      end.resolve(undefined);
      for (const { info } of paths) if (ends.get(info.path) === end.promise) ends.delete(info.path);
    };
    enqueue({ paths, realisations: [], after, onEnd });
  }

  function pump(): void {
    while (running < batchesAtOnce) {
      const batch = queue.shift();
      if (!batch) break;
      running += 1;
      void uploadBatch(batch)
        .catch((error: unknown) => {
          failure ??= toError(error);
          for (const { info } of batch.paths) onFailed(info, error);
          for (const realisation of batch.realisations) {
            onFailed({ path: realisationName(realisation), narSize: 0 }, error);
          }
        })
        .finally(() => {
          batch.onEnd();
          running -= 1;
          pump();
        });
    }
    if (running === 0 && queue.length === 0) idle.resolve(undefined);
  }

  return {
    upload,
    addPath: (path) => {
      batcher.addPath(path);
    },
    addRealisations(realisations) {
      // The batches of their outputs must have begun.
      batcher.flush();
      for (let start = 0; start < realisations.length; start += maxBatchRealisations) {
        const some = realisations.slice(start, start + maxBatchRealisations);
        const after = endsOf(some.map(({ outPath }) => outPath));
        enqueue({ paths: [], realisations: some, after, onEnd: () => undefined });
      }
    },
    async finish() {
      batcher.flush();
      idle = Promise.withResolvers<undefined>();
      pump();
      await idle.promise;
      if (failure) throw failure;
    },
  };
}
