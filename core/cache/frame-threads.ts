import { Worker } from 'node:worker_threads';

import { toError } from '../errors.ts';

/** What a thread is to compress: the frame that the first `size` bytes of `memory` are. */
interface FrameOrder {
  /** Large enough for what does not compress; gets the frame in the place of its contents. */
  readonly memory: SharedArrayBuffer;
  /** In bytes. */
  readonly size: number;
  /** zstd's parameters, by their numbers. */
  readonly params: Readonly<Record<number, number>>;
  /** Of the output buffer, in bytes: with less than the bound, zstd would copy the input. */
  readonly chunkSize: number;
}

interface Job {
  readonly order: FrameOrder;
  readonly resolve: (size: number) => void;
  readonly reject: (error: Error) => void;
}

/** Compresses frames where they lie, each on a thread of its own. */
export interface FrameThreads {
  /**
   * @returns the frame's size, in bytes
   * @throws Error of zlib's, or of a thread that could not go on
   */
  compress(order: FrameOrder): Promise<number>;
}

/**
 * Threads of our own instead of `node:zlib`'s on the thread pool: that one makes each output buffer on the
 * main thread's heap, and the collector, which counts them, goes through all of that heap for every few
 * frames. Here frames stay in memory that both sides share.
 *
 * Threads begin with the first frames, and idle ones do not keep the process.
 *
 * @param maxThreads beyond so many, frames wait for one another
 */
export function createFrameThreads(maxThreads: number): FrameThreads {
  const idle: Worker[] = [];
  const waiting: Job[] = [];
  const busy = new Map<Worker, Job>();

  function begin(): Worker {
    const worker = new Worker(`(${compressFrames.toString()})()`, {
      eval: true,
      // What the process was started with, such as a profiler or a loader, is not for these.
      execArgv: [],
      env: {},
    });
    worker.on('message', (size: number) => {
      const job = busy.get(worker);
      busy.delete(worker);
      idle.push(worker);
      worker.unref();
      job?.resolve(size);
      next();
    });
    worker.on('error', (error) => {
      const job = busy.get(worker);
      busy.delete(worker);
      job?.reject(toError(error));
      next();
    });
    return worker;
  }

  function next(): void {
    while (busy.size < maxThreads) {
      const job = waiting.shift();
      if (!job) return;
      const worker = idle.pop() ?? begin();
      busy.set(worker, job);
      worker.ref();
      worker.postMessage(job.order);
    }
  }

  return {
    compress: (order) =>
      new Promise((resolve, reject) => {
        waiting.push({ order, resolve, reject });
        next();
      }),
  };
}

/**
 * What runs in a thread. It is handed over as text, so that a bundle stays one file: it refers to
 * nothing outside of itself.
 */
function compressFrames(): void {
  const { parentPort } = process.getBuiltinModule('node:worker_threads');
  const { zstdCompressSync } = process.getBuiltinModule('node:zlib');
  parentPort?.on('message', ({ memory, size, params, chunkSize }: FrameOrder) => {
    const contents = new Uint8Array(memory, 0, size);
    const frame = zstdCompressSync(contents, { params, pledgedSrcSize: size, chunkSize });
    new Uint8Array(memory).set(frame);
    const { length } = frame;
    // Given back at once: it is as large as the memory, and the collector would wait for several.
    if (frame.buffer.byteLength === chunkSize) frame.buffer.transfer(0);
    parentPort.postMessage(length);
  });
}
