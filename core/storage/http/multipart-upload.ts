import { NicheError } from '../../errors.ts';
import { throwIfAborted } from '../../util/abort.ts';
import type { PutOutcome, Upload } from '../bucket.ts';

/** Stores the parts of one object. Parts are numbered in order; each but the last is full. */
export interface PartSink {
  /** Returns the token to resume the upload; undefined while nothing is stored. */
  readonly token: () => string | undefined;
  /** Prepares the storage before the first part. `token` is defined afterwards. */
  begin?(): Promise<unknown>;
  /** Stores an object that is no larger than a part. */
  putWhole(bytes: Uint8Array, ifAbsent: boolean): Promise<PutOutcome>;
  /** Stores one part. The bytes belong to the sink until the promise settles. */
  putPart(index: number, bytes: Uint8Array): Promise<void>;
  /** Makes the parts visible as one object. `last` is empty only for a resumed upload. */
  complete(index: number, last: Uint8Array, ifAbsent: boolean): Promise<PutOutcome>;
  /** Discards the stored parts. Called when no part is in flight. */
  discard(): Promise<void>;
}

export interface MultipartUploadOptions {
  /** What is done, on what: `writing "nar/…" in azure://…`. */
  readonly action: string;
  /** The size of one part. A storage's limit on their number limits the object's size. */
  readonly partBytes: number;
  /** Parts in flight; one more is being filled. */
  readonly partsAtOnce: number;
  /** Parts that are already stored. @default 0 */
  readonly storedParts?: number;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Returns an upload that collects chunks into parts. A part is sent when the first byte after it
 * arrives, so the last one is never empty, and an object of one part takes one request.
 */
export function createMultipartUpload(sink: PartSink, options: MultipartUploadOptions): Upload {
  const { action, partBytes, partsAtOnce, storedParts = 0, signal } = options;
  const running = new Set<Promise<void>>();
  let part = new Uint8Array(0);
  let filled = 0;
  let index = storedParts;
  let failure: { readonly error: unknown } | undefined;
  let state: 'open' | 'committing' | 'committed' | 'aborted' = 'open';

  function assertOpen(): void {
    throwIfAborted(signal, action);
    if (state !== 'open') {
      throw new NicheError('internal', `${action} failed: the upload has ended`);
    }
    if (failure !== undefined) throw failure.error;
  }

  function send(bytes: Uint8Array): void {
    const sending: Promise<void> = sink
      .putPart(index, bytes)
      .catch((error: unknown) => {
        failure ??= { error };
      })
      .finally(() => running.delete(sending));
    running.add(sending);
    index += 1;
  }

  /** Makes room for at least one byte. */
  async function makeRoom(wanted: number): Promise<void> {
    if (filled === partBytes) {
      if (index === 0) await sink.begin?.();
      if (running.size >= partsAtOnce) await Promise.race(running);
      assertOpen();
      send(part);
      part = new Uint8Array(partBytes);
      filled = 0;
      return;
    }
    if (filled + wanted <= part.length || part.length === partBytes) return;
    // A small object does not use the memory of a whole part.
    const grown = new Uint8Array(Math.min(partBytes, Math.max(2 * part.length, filled + wanted)));
    grown.set(part.subarray(0, filled));
    part = grown;
  }

  return {
    get token() {
      return sink.token();
    },

    async write(chunk) {
      assertOpen();
      try {
        for (let taken = 0; taken < chunk.length;) {
          await makeRoom(chunk.length - taken);
          const piece = chunk.subarray(taken, taken + part.length - filled);
          part.set(piece, filled);
          filled += piece.length;
          taken += piece.length;
        }
      } catch (error) {
        // The rest of the chunk is lost, so a later commit must fail too.
        failure ??= { error };
        throw error;
      }
    },

    async commit(commitOptions) {
      assertOpen();
      const ifAbsent = commitOptions?.ifAbsent === true;
      state = 'committing';
      await Promise.all(running);
      throwIfAborted(signal, action);
      if (failure !== undefined) throw failure.error;
      const last = part.subarray(0, filled);
      const outcome =
        index === 0
          ? await sink.putWhole(last, ifAbsent)
          : await sink.complete(index, last, ifAbsent);
      state = 'committed';
      // A failure leaves parts for a sweep, and does not change the result.
      if (outcome === 'exists') await sink.discard().catch(() => undefined);
      return outcome;
    },

    async abort() {
      if (state === 'committed' || state === 'aborted') return;
      state = 'aborted';
      await Promise.all(running);
      await sink.discard();
    },
  };
}
