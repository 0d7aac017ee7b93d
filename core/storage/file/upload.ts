import { NicheError, quote } from '../../errors.ts';
import { throwIfAborted } from '../../util/abort.ts';
import type { Upload } from '../bucket.ts';
import { fileError } from './errors.ts';
import type { FileRoot } from './root.ts';
import { createTemporary, discard, publish, syncTemporary, writeAll } from './temporary.ts';

const mib = 2 ** 20;

/** Small chunks are gathered up to this size, in bytes, to save system calls. */
const gatheredBytes = mib;

/** Chunks from this size, in bytes, are written as they arrive. */
const largeChunkBytes = mib / 4;

/** Flushed each time this much was written, in bytes, so that `commit` has little to wait for. */
const syncEveryBytes = 64 * mib;

/**
 * Implements {@link Bucket.upload} for a directory.
 *
 * @param path the file of `key`
 */
export async function uploadFile(
  root: FileRoot,
  key: string,
  path: string,
  signal: AbortSignal | undefined,
): Promise<Upload> {
  const action = `writing ${quote(key)} in ${root.url}`;
  const temporary = await createTemporary(root).catch((error: unknown) => {
    throw fileError(error, action);
  });
  let gathered: Uint8Array | undefined;
  let gatheredLength = 0;
  let unsynced = 0;
  let syncing: Promise<void> | undefined;
  let failure: unknown;
  let state: 'open' | 'committing' | 'ended' = 'open';

  function assertOpen(): void {
    throwIfAborted(signal, action);
    if (state !== 'open') {
      throw new NicheError('internal', `${action} failed: the upload has ended`);
    }
    if (failure !== undefined) throw fileError(failure, action);
  }

  async function store(bytes: Uint8Array): Promise<void> {
    await writeAll(temporary, bytes);
    unsynced += bytes.length;
    if (unsynced < syncEveryBytes || syncing !== undefined) return;
    unsynced = 0;
    syncing = syncTemporary(temporary)
      .catch((error: unknown) => {
        // The kernel reports a lost write only once.
        failure ??= error;
      })
      .finally(() => {
        syncing = undefined;
      });
  }

  async function storeGathered(): Promise<void> {
    if (gathered === undefined || gatheredLength === 0) return;
    const bytes = gathered.subarray(0, gatheredLength);
    gatheredLength = 0;
    await store(bytes);
  }

  return {
    async write(chunk) {
      assertOpen();
      try {
        if (gatheredLength + chunk.length > gatheredBytes) await storeGathered();
        if (chunk.length >= largeChunkBytes) {
          await storeGathered();
          await store(chunk);
        } else {
          gathered ??= new Uint8Array(gatheredBytes);
          gathered.set(chunk, gatheredLength);
          gatheredLength += chunk.length;
        }
      } catch (error) {
        failure ??= error;
        throw fileError(error, action);
      }
    },

    async commit(options) {
      assertOpen();
      state = 'committing';
      try {
        await storeGathered();
        await syncing;
        if (failure !== undefined) throw fileError(failure, action);
        throwIfAborted(signal, action);
        const ifAbsent = options?.ifAbsent === true;
        const outcome = await publish(root, temporary, key, path, ifAbsent);
        state = 'ended';
        return outcome;
      } catch (error) {
        throw fileError(error, action);
      }
    },

    async abort() {
      if (state === 'ended') return;
      state = 'ended';
      await syncing;
      try {
        discard(temporary);
      } catch (error) {
        throw fileError(error, `aborting ${action}`);
      }
    },
  };
}
