import { toError } from '../errors.ts';
import { parseManifestKey, stagingPrefix } from './layout.ts';
import type { BatchId, Waiting } from './layout.ts';
import { createPublisher } from './publisher.ts';
import type { Published, Publisher, PublisherOptions } from './publisher.ts';
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
  submit(id: BatchId): void;
  /** Takes every batch that is staged now; returns how many. */
  submitStaged(): Promise<number>;
  /**
   * Waits until everything submitted is handled.
   *
   * @throws the first failure of storage, an upstream or a signer; what failed stays staged
   */
  idle(): Promise<void>;
  /** Finishes what others dropped. */
  sweep(staleMs?: number): Promise<SweepReport>;
}

export type LocalPublisherOptions = Omit<PublisherOptions, 'wake'> & {
  /** Hears what became of each path. */
  readonly onPublished?: (published: Published) => void;
};

export function createLocalPublisher(options: LocalPublisherOptions): LocalPublisher {
  const { onPublished = () => undefined } = options;
  const queue: (() => Promise<void>)[] = [];
  const failures: Error[] = [];
  const queued = new Set<string>();
  let running = 0;
  let waiters: (() => void)[] = [];

  const publisher: Publisher = createPublisher({
    ...options,
    wake(waiting) {
      enqueue(`${waiting.storeHash}.${waiting.upload}`, () => resume(waiting));
      return Promise.resolve();
    },
  });

  async function resume(waiting: Waiting): Promise<void> {
    const published = await publisher.resume(waiting);
    if (published) onPublished(published);
  }

  async function publish(id: BatchId): Promise<void> {
    for (const published of await publisher.publish(id)) onPublished(published);
  }

  function enqueue(name: string, task: () => Promise<void>): void {
    // What is queued and not begun yet will see all that a second of its kind would.
    if (queued.has(name)) return;
    queued.add(name);
    queue.push(() => {
      queued.delete(name);
      return task();
    });
    pump();
  }

  function pump(): void {
    while (running < batchesAtOnce) {
      const task = queue.shift();
      if (!task) break;
      running += 1;
      void task()
        .catch((error: unknown) => failures.push(toError(error)))
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

  function submit(id: BatchId): void {
    enqueue(`${id.upload}/${id.batch}`, () => publish(id));
  }

  return {
    submit,
    idle,
    async submitStaged() {
      let count = 0;
      for await (const { key } of options.private.list(stagingPrefix)) {
        const id = parseManifestKey(key);
        if (!id) continue;
        submit(id);
        count += 1;
      }
      return count;
    },
    async sweep(staleMs = 2 * publisher.timeLimitMs) {
      const report = await sweep({
        private: options.private,
        public: options.public,
        publisher,
        waitingDays: options.config.limits.waitingDays,
        staleMs,
        ...(options.now ? { now: options.now } : {}),
      });
      for (const published of report.published) onPublished(published);
      await idle();
      return report;
    },
  };
}
