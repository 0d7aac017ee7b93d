import { closeSync, read as readCallback, readSync } from 'node:fs';
import { promisify } from 'node:util';
import { NicheError } from '../errors.ts';
import { throwIfAborted } from './aborted.ts';
import { fileError } from './file-errors.ts';
import type { ByteRange } from './range.ts';

/** Of one chunk, in bytes. */
const chunkBytes = 2 ** 20;

/** What is no longer than this, in bytes, is read at once: it takes no longer than a trip to the pool. */
const smallBytes = 2 ** 18;

const readLater = promisify(readCallback);

/**
 * The bytes of an open file, which is closed at their end, at a failure, and when the reader stops
 * early. What is small is read, and its file closed, before this returns.
 *
 * @param fd an open file's descriptor; the caller's to close only if this throws
 * @param action names file and bucket, as in `reading "nar/…" in file:///…`
 */
export function readBody(
  fd: number,
  range: ByteRange,
  action: string,
  signal: AbortSignal | undefined,
): AsyncIterable<Uint8Array> {
  const size = range.end - range.start;
  if (size > smallBytes) return chunksOf(fd, range, action, signal);
  const bytes = new Uint8Array(size);
  for (let filled = 0; filled < size;) {
    const bytesRead = readSync(fd, bytes, filled, size - filled, range.start + filled);
    if (bytesRead === 0) throw cut(action, range.end, range.start + filled);
    filled += bytesRead;
  }
  closeSync(fd);
  return oneChunk(bytes, action, signal);
}

// eslint-disable-next-line @typescript-eslint/require-await -- a body is asynchronous by contract
async function* oneChunk(
  bytes: Uint8Array,
  action: string,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array, void, undefined> {
  throwIfAborted(signal, action);
  if (bytes.length > 0) yield bytes;
}

/** It is no generator, as the `return` of one that was never begun would close nothing. */
function chunksOf(
  fd: number,
  { start, end }: ByteRange,
  action: string,
  signal: AbortSignal | undefined,
): AsyncIterable<Uint8Array> {
  let position = start;
  let isDone = false;
  let reading: Promise<unknown> | undefined;

  async function finish(): Promise<{ done: true; value: undefined }> {
    if (!isDone) {
      isDone = true;
      // A descriptor that is closed under a read may be another file's by then.
      await reading?.catch(() => undefined);
      closeSync(fd);
    }
    return { done: true, value: undefined };
  }

  async function readChunk(): Promise<Uint8Array> {
    throwIfAborted(signal, action);
    const chunk = new Uint8Array(Math.min(chunkBytes, end - position));
    const read = readLater(fd, chunk, 0, chunk.length, position);
    reading = read;
    const { bytesRead } = await read;
    if (bytesRead === 0) throw cut(action, end, position);
    position += bytesRead;
    return chunk.subarray(0, bytesRead);
  }

  const iterator: AsyncIterator<Uint8Array, undefined, undefined> = {
    async next() {
      if (isDone || position >= end) return finish();
      try {
        return { done: false, value: await readChunk() };
      } catch (error) {
        await finish();
        throw fileError(error, action);
      }
    },
    return: finish,
  };
  return { [Symbol.asyncIterator]: () => iterator };
}

function cut(action: string, expected: number, got: number): NicheError {
  return new NicheError(
    'storage-integrity',
    `${action} failed: expected ${expected} bytes, got only ${got}: the file was cut meanwhile`,
  );
}
