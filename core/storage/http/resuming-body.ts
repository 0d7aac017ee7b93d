import type { Readable } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import { messageOf, NicheError } from '../../errors.ts';
import { throwIfAborted } from '../../util/abort.ts';
import type { ByteRange } from '../range.ts';

export interface BodySource {
  /** What is read, where, for errors: `reading "nar/…" in azure://…`. */
  readonly action: string;
  /** The requested bytes, within the object. Where its size is unknown, `end` may be infinite. */
  readonly range: ByteRange;
  /** The body of the first response. */
  readonly first: Readable;
  /** Bytes of `first` before the range. @default 0 */
  readonly skip?: number;
  /**
   * Requests the given bytes of the same object again, after the connection broke. Null where the
   * storage cannot do that.
   *
   * @returns null when the object was replaced or deleted
   */
  readonly reopen: ((range: ByteRange) => Promise<Readable | null>) | null;
  readonly signal?: AbortSignal | undefined;
  readonly progress?: MinimumProgress | undefined;
}

/**
 * The slowest acceptable server: one that sends less counts as a broken connection. The time in which
 * the reader takes no bytes does not count. Without this bound, a server that sends a byte now and then
 * would hold its reader for ever.
 */
export interface MinimumProgress {
  /** @default 16 KiB */
  readonly bytes: number;
  /** In which these have to arrive, in milliseconds. @default 30,000 */
  readonly withinMs: number;
}

const defaultProgress: MinimumProgress = { bytes: 16 * 1024, withinMs: 30_000 };

/** Reopens a body at most this many times in a row without the minimum of progress. */
const maxFruitlessReopenings = 3;

/**
 * Returns the bytes of a response's body, and resumes it where it breaks off. The result is no
 * generator: `return` of a generator that never ran would leave the connection open.
 *
 * Iterating throws NicheError `storage-unavailable` when the body cannot be resumed, and `aborted`.
 */
export function resumingBody(source: BodySource): AsyncIterable<Uint8Array> {
  const { action, range, signal, progress = defaultProgress } = source;
  let { start: position } = range;
  let skip = source.skip ?? 0;
  let stream = source.first;
  let chunks = chunksOf(stream);
  let fruitless = 0;
  let isDone = false;
  /** Since the last time that the server had sent enough. */
  let waitedMs = 0;
  let receivedBytes = 0;

  async function finish(): Promise<IteratorReturnResult<undefined>> {
    const isWhole = !isDone && position >= range.end;
    isDone = true;
    // Reading the end of the response frees its connection for the next request; a new connection
    // costs round trips. The end mostly came with the last byte, and is not waited for otherwise.
    if (isWhole) await Promise.race([chunks.next().catch(() => undefined), setImmediate()]);
    stream.destroy();
    return { done: true, value: undefined };
  }

  async function reopen(why: string, cause?: unknown): Promise<void> {
    if (source.reopen === null || fruitless >= maxFruitlessReopenings) {
      const got = position - range.start;
      const total = range.end === Infinity ? '' : ` of ${range.end - range.start}`;
      throw new NicheError(
        'storage-unavailable',
        `${action} failed: its body broke off after ${got}${total} bytes: ${why}`,
        { cause },
      );
    }
    fruitless += 1;
    stream.destroy();
    const rest = await source.reopen({ start: position, end: range.end });
    if (rest === null) {
      throw new NicheError(
        'storage-unavailable',
        `${action} failed: its body broke off, and the object was replaced or deleted meanwhile`,
      );
    }
    stream = rest;
    skip = 0;
    chunks = chunksOf(stream);
    waitedMs = 0;
    receivedBytes = 0;
  }

  async function nextChunk(): Promise<IteratorResult<Uint8Array>> {
    const begun = performance.now();
    // Bytes that are no content arrive unseen, such as the headers of an encoding.
    const timer = setTimeout(
      () => stream.destroy(slowServer(progress)),
      progress.withinMs - waitedMs,
    );
    try {
      return await chunks.next();
    } finally {
      clearTimeout(timer);
      waitedMs += performance.now() - begun;
    }
  }

  function recordProgress(bytes: number): void {
    receivedBytes += bytes;
    if (receivedBytes < progress.bytes) return;
    receivedBytes = 0;
    waitedMs = 0;
    fruitless = 0;
  }

  /** @returns the next bytes; null at the end of an object of unknown size */
  async function read(): Promise<Uint8Array | null> {
    for (;;) {
      throwIfAborted(signal, action);
      try {
        const next = await nextChunk();
        if (next.done !== true) {
          recordProgress(next.value.length);
          return next.value;
        }
        if (range.end === Infinity) return null;
        throwIfAborted(signal, action);
      } catch (error) {
        throwIfAborted(signal, action);
        await reopen(messageOf(error), error);
        continue;
      }
      await reopen('the connection was closed');
    }
  }

  const iterator: AsyncIterator<Uint8Array, undefined, undefined> = {
    async next() {
      try {
        while (!isDone && position < range.end) {
          const chunk = await read();
          if (chunk === null) break;
          const skipped = Math.min(skip, chunk.length);
          skip -= skipped;
          // Bytes after the range are not the caller's.
          const wanted = chunk.subarray(skipped, skipped + range.end - position);
          if (wanted.length === 0) continue;
          position += wanted.length;
          return { done: false, value: wanted };
        }
        return await finish();
      } catch (error) {
        await finish();
        throw error;
      }
    },
    return: finish,
  };
  return { [Symbol.asyncIterator]: () => iterator };
}

function slowServer({ bytes, withinMs }: MinimumProgress): Error {
  return new Error(`the server sent less than ${bytes} bytes in ${withinMs} ms`);
}

/** The body of an object, or a range, of no bytes. */
export const emptyBody: AsyncIterable<Uint8Array> = {
  [Symbol.asyncIterator]: () => ({
    next: () => Promise.resolve({ done: true, value: undefined }),
    return: () => Promise.resolve({ done: true, value: undefined }),
  }),
};

function chunksOf(stream: Readable): AsyncIterator<Uint8Array> {
  // A connection may break between two reads. The next read throws the error; without a listener
  // it would end the process.
  stream.on('error', () => undefined);
  return stream[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
}
