import type { BatchId } from '../../core/cache/layout.ts';
import type {
  LocalPublisher,
  LocalPublisherOptions,
} from '../../core/cache/publish/local-publisher.ts';
import type { PublishResult } from '../../core/cache/publish/report.ts';
import { isNicheError, messageOf } from '../../core/errors.ts';

/** Opens a publisher in this process. */
export type OpenPublisher = (
  onPublished: (published: PublishResult) => void,
  onEnded?: LocalPublisherOptions['onEnded'],
) => LocalPublisher;

/** A publisher in this process, as one upload uses it. */
export interface UploadPublisher {
  submit(id: BatchId): void;
  /**
   * Waits until nothing is queued or in progress.
   *
   * @throws the first failure of a batch of this upload, which stays staged
   */
  finish(): Promise<void>;
  /**
   * Publishes what other uploads left staged, such as killed runs: there may be no other publisher.
   * Reports failures as warnings, since they do not concern the paths of this upload.
   *
   * @throws the first failure of a batch of this upload; NicheError `aborted`
   */
  publishOthers(): Promise<void>;
  close(): Promise<void>;
}

export interface UploadPublisherOptions {
  readonly open: OpenPublisher;
  /** Returns whether this upload waits for a batch. */
  readonly isOwn: (id: BatchId) => boolean;
  readonly onPublished: (published: PublishResult) => void;
  readonly onWarning: (message: string) => void;
}

export function createUploadPublisher(options: UploadPublisherOptions): UploadPublisher {
  const { isOwn, onWarning } = options;
  const ownFailures: Error[] = [];
  const publisher = options.open(options.onPublished, (id, failure) => {
    if (!failure) return;
    if (id !== null && isOwn(id)) {
      ownFailures.push(failure);
      return;
    }
    // A path that was resumed goes on waiting: a sweep resumes it again.
    const what = id === null ? 'a waiting path' : `batch ${id.batch} of upload ${id.upload}`;
    onWarning(`publishing ${what} failed: ${messageOf(failure)}`);
  });

  async function finish(): Promise<void> {
    await publisher.idle();
    const [failure] = ownFailures.splice(0);
    if (failure) throw failure;
  }

  async function warnOfFailure(what: string, work: () => Promise<unknown>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (isNicheError(error, 'aborted')) throw error;
      onWarning(`${what} failed: ${messageOf(error)}`);
    }
  }

  return {
    submit(id) {
      publisher.submit(id);
    },
    finish,
    async publishOthers() {
      await warnOfFailure('publishing other uploads', () => publisher.submitStaged());
      await finish();
      await warnOfFailure('sweeping the cache', () => publisher.sweep());
      await finish();
    },
    close: () => publisher.close(),
  };
}
