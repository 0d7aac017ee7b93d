import { closeSync, read as readCallback, readSync } from 'node:fs';
import { promisify } from 'node:util';
import { NicheError } from '../../errors.ts';
import { throwIfAborted } from '../../util/abort.ts';
import type { GetOptions } from '../bucket.ts';
import { fileError } from './errors.ts';
import type { ByteRange } from '../range.ts';

/** The size of one chunk, in bytes. */
const chunkBytes = 2 ** 20;

/** Up to this size, in bytes, a read takes no longer than handing it to the thread pool. */
const smallBytes = 2 ** 18;

const readLater = promisify(readCallback);

/**
 * Returns the bytes of an open file. The file is closed at their end, at a failure, and when the
 * reader stops early. A small file is read and closed before this returns.
 *
 * Iterating throws NicheError `storage-integrity` for a file that was cut, `storage-unavailable` and
 * `aborted`.
 *
 * @param fd an open descriptor; the caller closes it only if this throws
 * @param action for errors: `reading "nar/…" in file:///…`
 */
export function readBody(
  fd: number,
  range: ByteRange,
  action: string,
  { signal, lend = false }: Pick<GetOptions, 'signal' | 'lend'> = {},
): AsyncIterable<Uint8Array> {
  const size = range.end - range.start;
  if (size > smallBytes) return chunksOf(fd, range, action, signal, lend);
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

/**
 * Reads one chunk ahead of its reader. The result is no generator: `return` of a generator that never
 * ran would close nothing.
 */
function chunksOf(
  fd: number,
  { start, end }: ByteRange,
  action: string,
  signal: AbortSignal | undefined,
  lend: boolean,
): AsyncIterable<Uint8Array> {
  let position = start;
  let isDone = false;
  let ahead: Promise<Uint8Array> | undefined;
  /** Where chunks are lent: the buffers that the reader has returned. */
  const spare: Uint8Array[] = [];
  let lent: Uint8Array | undefined;

  async function finish(): Promise<{ done: true; value: undefined }> {
    if (!isDone) {
      isDone = true;
      // A descriptor that is closed during a read may be another file's by then.
      await ahead?.catch(() => undefined);
      closeSync(fd);
    }
    return { done: true, value: undefined };
  }

  async function readChunk(): Promise<Uint8Array> {
    const buffer = spare.pop() ?? new Uint8Array(Math.min(chunkBytes, end - position));
    const length = Math.min(buffer.length, end - position);
    const { bytesRead } = await readLater(fd, buffer, 0, length, position);
    if (bytesRead === 0) throw cut(action, end, position);
    position += bytesRead;
    return buffer.subarray(0, bytesRead);
  }

  async function nextChunk(): Promise<Uint8Array> {
    throwIfAborted(signal, action);
    if (lent) spare.push(new Uint8Array(lent.buffer));
    const chunk = await (ahead ?? readChunk());
    ahead = undefined;
    if (lend) lent = chunk;
    if (position < end) {
      ahead = readChunk();
      // The next call awaits it; until then a failure must not count as unhandled.
      ahead.catch(() => undefined);
    }
    return chunk;
  }

  const iterator: AsyncIterator<Uint8Array, undefined, undefined> = {
    async next() {
      if (isDone || (position >= end && !ahead)) return finish();
      try {
        return { done: false, value: await nextChunk() };
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
    `${action} failed: expected ${expected} bytes, got only ${got}: the file was truncated meanwhile`,
  );
}
