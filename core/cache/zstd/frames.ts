import { availableParallelism } from 'node:os';
import { constants, zstdCompressSync } from 'node:zlib';

import { createCoalescer } from '../../util/concurrency.ts';
import { createWorkerPool } from './worker-pool.ts';

/**
 * zstd parameters for a level where others than zstd's defaults suit the processor's cache better.
 * A level that is not listed keeps the defaults. At level 3 the two tables shrink from 768 KiB to
 * 384 KiB, so that a second-level cache of 512 KiB has room left: compression takes an eighth less
 * time. The larger window makes up for most of the loss: output grows by 0.4 % instead of 1.3 %.
 */
const tunedParameters: Readonly<Record<number, Readonly<Record<number, number>>>> = {
  3: {
    [constants.ZSTD_c_windowLog]: 23,
    [constants.ZSTD_c_hashLog]: 16,
    [constants.ZSTD_c_chainLog]: 15,
  },
};

/** Up to this size, in bytes, zstd has its own parameters for small inputs at each level. */
const maxUntunedBytes = 256 * 1024;

function parametersOf(size: number, level: number): Readonly<Record<number, number>> {
  const tuned = size > maxUntunedBytes ? tunedParameters[level] : {};
  return { [constants.ZSTD_c_compressionLevel]: level, ...tuned };
}

/** The most that zstd needs for `size` incompressible bytes (ZSTD_COMPRESSBOUND), and a margin. */
const compressBound = (size: number): number => size + (size >> 8) + 1024;

/** The process's workers; more of them than processors would only wait for one another. */
const workerCount = Math.max(2, availableParallelism());
const workers = createWorkerPool(workerCount);

/** The contents of one frame, not compressed yet. */
interface FrameInput {
  readonly contents: Uint8Array;
  readonly level: number;
}

/**
 * Compresses several inputs in one turn of one worker. For a small input, the message to the worker
 * and back takes longer than its compression.
 *
 * @returns a frame for each input
 */
async function compressBatch(inputs: readonly FrameInput[]): Promise<Uint8Array[]> {
  let end = 0;
  const sections = inputs.map(({ contents: { length: size }, level }) => {
    const at = end;
    const room = compressBound(size);
    end += room;
    return { at, size, room, params: parametersOf(size, level) };
  });
  const memory = new SharedArrayBuffer(end);
  const bytes = new Uint8Array(memory);
  for (const [index, { contents }] of inputs.entries()) bytes.set(contents, sections[index]?.at);
  const sizes = await workers.compress({ memory, sections });
  return sections.map(({ at }, index) => {
    const size = sizes[index];
    if (size === undefined) throw new Error('a compression worker returned too few frames');
    return bytes.slice(at, at + size);
  });
}

/** Compresses `contents` as one frame, in a worker. */
export async function compressFrame(contents: Uint8Array, level: number): Promise<Uint8Array> {
  const [frame] = await compressBatch([{ contents, level }]);
  if (!frame) throw new Error('a compression worker returned too few frames');
  return frame;
}

/** The largest contents, in bytes, that {@link compressSmall} takes. */
export const maxSmallBytes = 64 * 1024;

/** Smaller batches do not repay the start of a worker. */
const minWorkerBatch = 16;

interface PendingFrame extends FrameInput {
  readonly settled: PromiseWithResolvers<Uint8Array>;
}

const enqueueSmall = createCoalescer(compressGathered);

/**
 * Compresses at most {@link maxSmallBytes} as one frame. Calls that arrive together share one turn of
 * a worker; a few are compressed on this thread. Calls that arrive meanwhile form the next batch, so
 * one worker is busy at most: checking a small NAR here takes longer than compressing it there.
 */
export function compressSmall(contents: Uint8Array, level: number): Promise<Uint8Array> {
  const settled = Promise.withResolvers<Uint8Array>();
  enqueueSmall({ contents, level, settled });
  return settled.promise;
}

async function compressGathered(batch: readonly PendingFrame[]): Promise<void> {
  if (batch.length < minWorkerBatch) {
    for (const pending of batch) settleHere(pending);
    return;
  }
  try {
    const frames = await compressBatch(batch);
    for (const [index, frame] of frames.entries()) batch[index]?.settled.resolve(frame);
  } catch (error) {
    for (const { settled } of batch) settled.reject(error);
  }
}

function settleHere({ contents, level, settled }: PendingFrame): void {
  try {
    const { length } = contents;
    const frame = zstdCompressSync(contents, {
      params: parametersOf(length, level),
      pledgedSrcSize: length,
      chunkSize: compressBound(length),
    });
    settled.resolve(frame);
  } catch (error) {
    settled.reject(error);
  }
}

/** Memory for the contents and the result of one frame at a time, shared with the workers. */
export interface FrameBuffer {
  /** Fill this with the contents of a frame. */
  readonly contents: Uint8Array;
  /**
   * Compresses the first `size` bytes of `contents` in a worker.
   *
   * @returns the frame, a view of this buffer: it replaces the contents
   */
  compress(size: number, level: number): Promise<Uint8Array>;
}

/**
 * Uncompressed size of a frame, in bytes. Frames are independent: niche compresses them in parallel,
 * and a reader may decompress them in parallel. Compression holds about six times this much. Frames
 * of twice the size would save 0.7 % of storage and exceed the memory of a publisher.
 */
export const frameBytes = 8 * 1024 * 1024;

/** Each worker has one, and each of two NARs fills one. */
const maxFrameBuffers = Math.min(4, workerCount) + 2;

/**
 * Buffers of whole frames for the next NAR. The workers' threads refer to a buffer too, so that
 * collectors would free it late, and those of several NARs would pile up.
 */
const spareBuffers: FrameBuffer[] = [];
let takenBuffers = 0;

/**
 * Returns a buffer for a frame; null when the process has no more for a NAR that has some.
 *
 * @param capacity the length of `contents`, in bytes: at most {@link frameBytes}
 * @param owned the buffers that the NAR has
 */
export function takeFrameBuffer(capacity: number, owned: number): FrameBuffer | null {
  if (owned > 0 && takenBuffers >= maxFrameBuffers) return null;
  takenBuffers += 1;
  const spare = capacity === frameBytes ? spareBuffers.pop() : undefined;
  return spare ?? createFrameBuffer(capacity);
}

/** @param isFree whether nothing uses the buffer any more */
export function returnFrameBuffer(buffer: FrameBuffer, isFree: boolean): void {
  takenBuffers -= 1;
  if (isFree && buffer.contents.length === frameBytes) spareBuffers.push(buffer);
}

function createFrameBuffer(capacity: number): FrameBuffer {
  const memory = new SharedArrayBuffer(compressBound(capacity));
  return {
    contents: new Uint8Array(memory, 0, capacity),
    async compress(size, level) {
      const params = parametersOf(size, level);
      const sections = [{ at: 0, size, room: compressBound(size), params }];
      const [length] = await workers.compress({ memory, sections });
      return new Uint8Array(memory, 0, length);
    },
  };
}
