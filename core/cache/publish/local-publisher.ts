import { createTaskQueue } from '../../util/task-queue.ts';
import type { Task } from '../../util/task-queue.ts';
import type { ReportedOrigin } from '../audit.ts';
import { parseManifestKey, stagingPrefix } from '../layout.ts';
import type { BatchId, WaitingMarker } from '../layout.ts';
import { withdrawRefused } from '../withdraw/withdraw.ts';
import type { PublisherLease } from './lease.ts';
import { createPublisher } from './publisher.ts';
import type { Publisher, PublisherOptions } from './publisher.ts';
import type { PublishResult } from './report.ts';
import { sweep } from './sweep.ts';
import type { SweepReport } from './sweep.ts';

/** Batches published at once: one can use the CPU while another waits for storage. */
const batchesAtOnce = 2;

/**
 * A publisher in this process, for buckets without functions. Publishes batches as they are staged,
 * and resumes waiting paths itself.
 */
export interface LocalPublisher {
  /** Queues a batch. */
  submit(id: BatchId, origin?: ReportedOrigin): void;
  /**
   * Queues every staged batch that `accept` returns true for.
   *
   * @returns how many
   */
  submitStaged(accept?: (id: BatchId) => boolean): Promise<number>;
  /**
   * Waits until no batch and no path is queued or in progress.
   *
   * @throws the first failure since the last call, unless `onEnded` receives them. The batch of a
   *   failure stays staged.
   */
  idle(): Promise<void>;
  /** Runs a {@link sweep}, and waits until the publisher is idle. */
  sweep(staleMs?: number): Promise<SweepReport>;
  /**
   * Drops queued batches, which stay staged, and takes no more. Paths that wait for a path in
   * progress are still resumed, which costs little: their NARs are stored already.
   */
  stop(): void;
  load(): PublisherLoad;
  /** Releases the lease. Call it when the publisher is idle. */
  close(): Promise<void>;
}

/** The number of tasks. A task is a batch, or a path that is resumed or withdrawn. */
export interface PublisherLoad {
  readonly queued: number;
  readonly running: number;
}

export type LocalPublisherOptions = Omit<PublisherOptions, 'wake' | 'withdraw'> & {
  /** Receives the result of each path. */
  readonly onPublished?: (published: PublishResult) => void;
  /** Receives each batch, or null for another task, when it has ended, with its failure. */
  readonly onEnded?: ((id: BatchId | null, failure: Error | null) => void) | undefined;
  /**
   * Whether it deletes public objects that are blocked. Else a process of another identity must do so.
   * @default true
   */
  readonly withdraws?: boolean | undefined;
  /** Held where the storage does not write conditionally. */
  readonly lease?: PublisherLease | undefined;
};

interface PublishTask extends Task {
  /** Null for a path that is resumed or withdrawn. */
  readonly id: BatchId | null;
}

export function createLocalPublisher(options: LocalPublisherOptions): LocalPublisher {
  const { onPublished = () => undefined, lease, withdraws = true } = options;
  const failures: Error[] = [];
  const stopping = new AbortController();

  const queue = createTaskQueue<PublishTask>({
    concurrency: batchesAtOnce,
    onEnded({ id }, failure) {
      if (options.onEnded) options.onEnded(id, failure);
      else if (failure) failures.push(failure);
    },
  });

  const publisher: Publisher = createPublisher({
    ...options,
    wake(waiting) {
      queue.add(resumeTask(waiting));
      return Promise.resolve();
    },
    withdraw(storeHash) {
      if (withdraws) queue.add(withdrawTask(storeHash));
      return Promise.resolve();
    },
  });

  function withdrawTask(storeHash: string): PublishTask {
    return {
      id: null,
      key: `withdraw ${storeHash}`,
      repeats: true,
      async run() {
        await withdrawRefused({ ...options, now: options.now ?? (() => new Date()) }, storeHash);
      },
    };
  }

  function resumeTask(waiting: WaitingMarker): PublishTask {
    return {
      id: null,
      key: `${waiting.storeHash}.${waiting.upload}`,
      // A resume in progress may have looked for references before the new one was published.
      repeats: true,
      async run() {
        lease?.assertHeld();
        const published = await publisher.resumePath(waiting);
        if (published) onPublished(published);
      },
    };
  }

  function batchTask(id: BatchId, origin: ReportedOrigin | undefined): PublishTask {
    return {
      id,
      key: keyOf(id),
      repeats: false,
      // Later batches of an upload refer to paths of earlier ones.
      order: { group: id.upload, rank: id.batch },
      async run() {
        lease?.assertHeld();
        for (const published of await publisher.publishBatch(id, { origin })) {
          onPublished(published);
        }
      },
    };
  }

  function submit(id: BatchId, origin?: ReportedOrigin): void {
    if (!stopping.signal.aborted) queue.add(batchTask(id, origin));
  }

  async function idle(): Promise<void> {
    await queue.waitUntilIdle();
    const [failure] = failures.splice(0);
    if (failure) throw failure;
  }

  /** Skips batches that are queued or in progress: they are old because they are large or many. */
  const publishStale: Publisher['publishBatch'] = async (id, call) =>
    (await queue.runNow(keyOf(id), () => publisher.publishBatch(id, call))) ?? [];

  return {
    submit,
    idle,
    load: () => queue.count(),
    stop() {
      stopping.abort();
      queue.drop(({ id }) => id !== null);
    },
    async submitStaged(accept = () => true) {
      let count = 0;
      for await (const { key } of options.staging.list(stagingPrefix)) {
        const id = parseManifestKey(key);
        if (!id || !accept(id)) continue;
        submit(id);
        count += 1;
      }
      return count;
    },
    close: async () => lease?.release(),
    async sweep(staleMs = 2 * publisher.timeLimitMs) {
      lease?.assertHeld();
      const report = await sweep({
        public: options.public,
        staging: options.staging,
        private: options.private,
        publisher: { ...publisher, publishBatch: publishStale },
        waitingDays: options.config.limits.waitingDays,
        staleMs,
        signal: stopping.signal,
        withdraws,
        ...(options.now ? { now: options.now } : {}),
      });
      for (const published of report.published) onPublished(published);
      await idle();
      return report;
    },
  };
}

function keyOf({ upload, batch }: BatchId): string {
  return `${upload}/${batch}`;
}
