import type { Readable } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import { messageOf, NicheError } from '../../errors.ts';
import { throwIfAborted } from '../../util/abort.ts';
import type { ByteRange } from '../range.ts';

export interface BodySource {
  /** What is read, where: `reading "nar/…" in azure://…`. */
  readonly action: string;
  /** What of the object is asked for; both bounds lie within it. */
  readonly range: ByteRange;
  readonly first: Readable;
  /** The same object's bytes of a later range, after the connection broke; null when it is another by now. */
  readonly reopen: (range: ByteRange) => Promise<Readable | null>;
  readonly signal?: AbortSignal | undefined;
}

/** Times that a body is asked for again although not a byte more has come. */
const maxFruitlessReopenings = 3;

/**
 * The bytes of an answer, asked for again from where it broke off. It is no generator, as the
 * `return` of one that was never begun would leave the connection open.
 */
export function resumingBody(source: BodySource): AsyncIterable<Uint8Array> {
  const { action, range, signal } = source;
  let { start: position } = range;
  let stream = source.first;
  let chunks = chunksOf(stream);
  let fruitless = 0;
  let isDone = false;

  function drop(): void {
    stream.destroy();
  }

  async function finish(): Promise<IteratorReturnResult<undefined>> {
    const isWhole = !isDone && position >= range.end;
    isDone = true;
    // Once the answer's end has been read too, its connection serves the next request: to make one
    // takes some round trips. It mostly came with the last byte, and is not waited for otherwise.
    if (isWhole) await Promise.race([chunks.next().catch(() => undefined), setImmediate()]);
    drop();
    return { done: true, value: undefined };
  }

  async function reopen(why: string, cause?: unknown): Promise<void> {
    if (fruitless >= maxFruitlessReopenings) {
      const got = position - range.start;
      throw new NicheError(
        'storage-unavailable',
        `${action} failed: its body broke off after ${got} of ${range.end - range.start} bytes: ${why}`,
        { cause },
      );
    }
    fruitless += 1;
    drop();
    const rest = await source.reopen({ start: position, end: range.end });
    if (rest === null) {
      throw new NicheError(
        'storage-unavailable',
        `${action} failed: its body broke off, and the object was replaced or deleted meanwhile`,
      );
    }
    stream = rest;
    chunks = chunksOf(stream);
  }

  /** @returns the next bytes; null when the body has to be opened anew */
  async function read(): Promise<Uint8Array | null> {
    try {
      const next = await chunks.next();
      if (next.done !== true) return next.value;
    } catch (error) {
      throwIfAborted(signal, action);
      await reopen(messageOf(error), error);
      return null;
    }
    throwIfAborted(signal, action);
    await reopen('the connection was closed');
    return null;
  }

  const iterator: AsyncIterator<Uint8Array, undefined, undefined> = {
    async next() {
      try {
        while (!isDone && position < range.end) {
          throwIfAborted(signal, action);
          const chunk = await read();
          if (chunk === null || chunk.length === 0) continue;
          fruitless = 0;
          // More than was asked for is not the object's.
          const wanted = chunk.subarray(0, range.end - position);
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

/** The body of an object, or a range, of no bytes. */
export const emptyBody: AsyncIterable<Uint8Array> = {
  [Symbol.asyncIterator]: () => ({
    next: () => Promise.resolve({ done: true, value: undefined }),
    return: () => Promise.resolve({ done: true, value: undefined }),
  }),
};

function chunksOf(stream: Readable): AsyncIterator<Uint8Array> {
  // A connection may break while nobody reads, or once nobody does any more: whoever asks for the
  // next chunk is told, and an error that nobody hears would end the process.
  stream.on('error', () => undefined);
  return stream[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
}
