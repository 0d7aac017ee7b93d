import { Worker } from 'node:worker_threads';

import { toError } from '../../errors.ts';

/** A job for one worker: compress each section of `memory` as a frame, in place. */
interface CompressionJob {
  readonly memory: SharedArrayBuffer;
  readonly sections: readonly FrameSection[];
}

/** A part of the shared memory: the contents before compression, the frame after. */
interface FrameSection {
  /** Offset in the memory, in bytes. */
  readonly at: number;
  /** Length of the contents, in bytes. */
  readonly size: number;
  /** Space for the frame, in bytes: enough for incompressible contents. */
  readonly room: number;
  /** zstd parameters, by the numbers in `zlib.constants`. */
  readonly params: Readonly<Record<number, number>>;
}

interface QueuedJob {
  readonly job: CompressionJob;
  readonly resolve: (sizes: readonly number[]) => void;
  readonly reject: (error: Error) => void;
}

/** Compresses frames in shared memory, on threads of its own. */
export interface WorkerPool {
  /**
   * @returns the size of each section's frame, in bytes
   * @throws Error from zlib, or from a worker that died
   */
  compress(job: CompressionJob): Promise<readonly number[]>;
}

/**
 * Starts workers on demand. Idle workers do not keep the process alive.
 *
 * `node:zlib`'s own asynchronous functions would allocate each output buffer on the main thread's
 * heap. The garbage collector counts those buffers, and would walk the whole heap every few frames.
 *
 * @param maxWorkers the limit of workers; further jobs wait for one
 */
export function createWorkerPool(maxWorkers: number): WorkerPool {
  const idle: Worker[] = [];
  const waiting: QueuedJob[] = [];
  const busy = new Map<Worker, QueuedJob>();

  function startWorker(): Worker {
    const worker = new Worker(`(${runWorker.toString()})()`, {
      eval: true,
      // Options of the process, such as a profiler or a loader, are not for the workers.
      execArgv: [],
      env: {},
    });
    worker.on('message', (sizes: readonly number[]) => {
      const queued = busy.get(worker);
      busy.delete(worker);
      idle.push(worker);
      worker.unref();
      queued?.resolve(sizes);
      dispatch();
    });
    worker.on('error', (error) => {
      const queued = busy.get(worker);
      busy.delete(worker);
      queued?.reject(toError(error));
      dispatch();
    });
    return worker;
  }

  function dispatch(): void {
    while (busy.size < maxWorkers) {
      const queued = waiting.shift();
      if (!queued) return;
      const worker = idle.pop() ?? startWorker();
      busy.set(worker, queued);
      worker.ref();
      worker.postMessage(queued.job);
    }
  }

  return {
    compress: (job) =>
      new Promise((resolve, reject) => {
        waiting.push({ job, resolve, reject });
        dispatch();
      }),
  };
}

/**
 * Runs in a worker. The worker gets this function as source text, so that a bundle stays one file;
 * therefore it must not refer to anything outside of itself.
 */
function runWorker(): void {
  const { parentPort } = process.getBuiltinModule('node:worker_threads');
  const { zstdCompressSync } = process.getBuiltinModule('node:zlib');
  parentPort?.on('message', ({ memory, sections }: CompressionJob) => {
    const sizes = sections.map(({ at, size, room, params }) => {
      const contents = new Uint8Array(memory, at, size);
      // With an output buffer below the bound, zstd would copy the input.
      const frame = zstdCompressSync(contents, { params, pledgedSrcSize: size, chunkSize: room });
      new Uint8Array(memory).set(frame, at);
      const { length } = frame;
      // Frees the buffer at once: it is as large as the section, and would wait for the collector.
      if (frame.buffer.byteLength === room) frame.buffer.transfer(0);
      return length;
    });
    parentPort.postMessage(sizes);
  });
}
