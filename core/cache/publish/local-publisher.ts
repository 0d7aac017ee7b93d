import { toError } from '../../errors.ts';
import type { Origin } from '../audit.ts';
import { parseManifestKey, stagingPrefix } from '../layout.ts';
import type { PublisherLease } from './lease.ts';
import type { BatchId, WaitingMarker } from '../layout.ts';
import { createPublisher } from './publisher.ts';
import type { PublishCall } from './publish-batch.ts';
import type { Publisher, PublisherOptions } from './publisher.ts';
import type { PublishResult } from './report.ts';
import { sweep } from './sweep.ts';
import type { SweepReport } from './sweep.ts';

/** Batches published at once: enough that one waits for storage while another computes. */
const batchesAtOnce = 2;

/**
 * A publisher in this process, for buckets without functions: takes batches as they are staged, and
 * wakes waiting paths itself.
 */
export interface LocalPublisher {
  /** Takes a batch; returns at once. */
  submit(id: BatchId, origin?: Origin): void;
  /**
   * Takes every batch that is staged now and that `accept` does not leave out.
   *
   * @returns how many
   */
  submitStaged(accept?: (id: BatchId) => boolean): Promise<number>;
  /**
   * Waits until everything submitted is handled.
   *
   * @throws the first failure of storage, an upstream or a signer, unless `onEnded` hears of them;
   *   what failed stays staged
   */
  idle(): Promise<void>;
  /** Finishes what others dropped. */
  sweep(staleMs?: number): Promise<SweepReport>;
  /**
   * Begins no more batches: what is not under way yet stays staged. Whatever waited for a path that
   * is under way is still resumed, which costs little: its NAR is stored already.
   */
  stop(): void;
  load(): PublisherLoad;
  /** Ends it, once idle: another process may publish then where only one may. */
  close(): Promise<void>;
}

/** What a publisher has to do, in tasks: a batch each, or a path that is resumed. */
export interface PublisherLoad {
  readonly queued: number;
  readonly running: number;
}

export type LocalPublisherOptions = Omit<PublisherOptions, 'wake'> & {
  /** Hears what became of each path. */
  readonly onPublished?: (published: PublishResult) => void;
  /** Hears how each batch ended, and each path that was resumed (then `id` is null). */
  readonly onEnded?: ((id: BatchId | null, failure: Error | null) => void) | undefined;
  /** Taken where the storage cannot keep two publishers apart. */
  readonly lease?: PublisherLease | undefined;
};

export function createLocalPublisher(options: LocalPublisherOptions): LocalPublisher {
  const { onPublished = () => undefined } = options;
  const queue: { readonly id: BatchId | null; readonly run: () => Promise<void> }[] = [];
  const failures: Error[] = [];
  const queued = new Set<string>();
  const underWay = new Set<string>();
  let running = 0;
  const stopping = new AbortController();
  let waiters: (() => void)[] = [];

  const publisher: Publisher = createPublisher({
    ...options,
    wake(waiting) {
      enqueue(`${waiting.storeHash}.${waiting.upload}`, null, () => resume(waiting));
      return Promise.resolve();
    },
  });

  async function resume(waiting: WaitingMarker): Promise<void> {
    options.lease?.assertHeld();
    const published = await publisher.resumePath(waiting);
    if (published) onPublished(published);
  }

  async function publish(id: BatchId, origin: Origin | undefined): Promise<void> {
    options.lease?.assertHeld();
    for (const published of await publisher.publishBatch(id, { origin })) onPublished(published);
  }

  /** What a sweep comes upon. It may have lain for long because there is a lot to do, or it is large. */
  async function publishDropped(id: BatchId, call?: PublishCall): Promise<PublishResult[]> {
    const name = nameOf(id);
    if (queued.has(name) || underWay.has(name)) return [];
    return noted(name, () => publisher.publishBatch(id, call));
  }

  async function noted<T>(name: string, work: () => Promise<T>): Promise<T> {
    underWay.add(name);
    return work().finally(() => underWay.delete(name));
  }

  function enqueue(name: string, id: BatchId | null, task: () => Promise<void>): void {
    if (stopping.signal.aborted && id !== null) return;
    // What is queued and not begun yet will see all that a second of its kind would. A batch stays
    // as it is, so nor does one that is under way need a second.
    if (queued.has(name) || (id !== null && underWay.has(name))) return;
    queued.add(name);
    queue.push({
      id,
      async run() {
        queued.delete(name);
        await noted(name, task);
      },
    });
    pump();
  }

  /** The next task: of an upload the first batch, to which later ones refer, whichever was told of first. */
  function take(): (typeof queue)[number] | undefined {
    const [first] = queue;
    if (!first?.id) return queue.shift();
    const { upload } = first.id;
    const next = queue.reduce((lowest, task) =>
      task.id?.upload === upload && task.id.batch < (lowest.id?.batch ?? 0) ? task : lowest,
    );
    queue.splice(queue.indexOf(next), 1);
    return next;
  }

  function pump(): void {
    while (running < batchesAtOnce) {
      const task = take();
      if (!task) break;
      running += 1;
      void task
        .run()
        .then(
          () => options.onEnded?.(task.id, null),
          (error: unknown) => {
            if (options.onEnded) options.onEnded(task.id, toError(error));
            else failures.push(toError(error));
          },
        )
        .finally(() => {
          running -= 1;
          pump();
        });
    }
    if (running > 0 || queue.length > 0) return;
    for (const wake of waiters.splice(0)) wake();
  }

  async function idle(): Promise<void> {
    if (running > 0 || queue.length > 0) {
      await new Promise<void>((resolve) => {
        waiters = [...waiters, resolve];
      });
    }
    const [failure] = failures.splice(0);
    if (failure) throw failure;
  }

  function submit(id: BatchId, origin?: Origin): void {
    enqueue(nameOf(id), id, () => publish(id, origin));
  }

  return {
    submit,
    idle,
    load: () => ({ queued: queue.length, running }),
    stop() {
      stopping.abort();
      const resumed = queue.filter(({ id }) => id === null);
      queue.splice(0, queue.length, ...resumed);
    },
    async submitStaged(accept = () => true) {
      let count = 0;
      for await (const { key } of options.private.list(stagingPrefix)) {
        const id = parseManifestKey(key);
        if (!id || !accept(id)) continue;
        submit(id);
        count += 1;
      }
      return count;
    },
    close: async () => options.lease?.release(),
    async sweep(staleMs = 2 * publisher.timeLimitMs) {
      options.lease?.assertHeld();
      const report = await sweep({
        private: options.private,
        public: options.public,
        publisher: { ...publisher, publishBatch: publishDropped },
        waitingDays: options.config.limits.waitingDays,
        staleMs,
        signal: stopping.signal,
        ...(options.now ? { now: options.now } : {}),
      });
      for (const published of report.published) onPublished(published);
      await idle();
      return report;
    },
  };
}

function nameOf({ upload, batch }: BatchId): string {
  return `${upload}/${batch}`;
}
