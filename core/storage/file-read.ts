import type { FileHandle } from 'node:fs/promises';
import { NicheError } from '../errors.ts';
import { throwIfAborted } from './aborted.ts';
import { fileError } from './file-errors.ts';
import type { ByteRange } from './range.ts';

/** Of one chunk, in bytes. */
const chunkBytes = 2 ** 20;

/**
 * The bytes of an open file, which is closed at their end, at a failure, and when the reader stops
 * early. It is no generator, as the `return` of one that was never begun would close nothing.
 *
 * @param action names file and bucket, as in `reading "nar/…" in file:///…`
 */
export function readBody(
  handle: FileHandle,
  { start, end }: ByteRange,
  action: string,
  signal: AbortSignal | undefined,
): AsyncIterable<Uint8Array> {
  let position = start;
  let isDone = false;

  async function finish(): Promise<{ done: true; value: undefined }> {
    isDone = true;
    await handle.close();
    return { done: true, value: undefined };
  }

  async function readChunk(): Promise<Uint8Array> {
    throwIfAborted(signal, action);
    const chunk = new Uint8Array(Math.min(chunkBytes, end - position));
    const { bytesRead } = await handle.read(chunk, 0, chunk.length, position);
    if (bytesRead === 0) {
      throw new NicheError(
        'storage-integrity',
        `${action} failed: expected ${end} bytes, got only ${position}: the file was cut meanwhile`,
      );
    }
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
