import { Worker } from 'node:worker_threads';

import { toError } from '../../errors.ts';

/** What a thread is to compress: each section of `memory`, as a frame. */
interface FrameOrder {
  readonly memory: SharedArrayBuffer;
  readonly sections: readonly FrameSection[];
}

/** Where contents lie; the frame comes in their place. */
interface FrameSection {
  /** In bytes, from the memory's beginning. */
  readonly at: number;
  /** Of the contents, in bytes. */
  readonly size: number;
  /** What there is for the frame, in bytes: enough for what does not compress. */
  readonly room: number;
  /** zstd's parameters, by their numbers. */
  readonly params: Readonly<Record<number, number>>;
}

interface Job {
  readonly order: FrameOrder;
  readonly resolve: (sizes: readonly number[]) => void;
  readonly reject: (error: Error) => void;
}

/** Compresses frames where they lie, each on a thread of its own. */
export interface FrameThreads {
  /**
   * @returns each frame's size, in bytes
   * @throws Error of zlib's, or of a thread that could not go on
   */
  compress(order: FrameOrder): Promise<readonly number[]>;
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
    worker.on('message', (sizes: readonly number[]) => {
      const job = busy.get(worker);
      busy.delete(worker);
      idle.push(worker);
      worker.unref();
      job?.resolve(sizes);
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
  parentPort?.on('message', ({ memory, sections }: FrameOrder) => {
    const sizes = sections.map(({ at, size, room, params }) => {
      const contents = new Uint8Array(memory, at, size);
      // With an output buffer of less than the bound, zstd would copy the input.
      const frame = zstdCompressSync(contents, { params, pledgedSrcSize: size, chunkSize: room });
      new Uint8Array(memory).set(frame, at);
      const { length } = frame;
      // Given back at once: it is as large as the section, and the collector would wait for several.
      if (frame.buffer.byteLength === room) frame.buffer.transfer(0);
      return length;
    });
    parentPort.postMessage(sizes);
  });
}
