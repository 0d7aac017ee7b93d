import { access } from 'node:fs';

/**
 * Threads for what waits for the disk: syncs that run at once share the disk's journal, and with
 * libuv's four most of a batch would wait for a turn. An idle thread costs next to nothing.
 */
const threads = 32;

const name = 'UV_THREADPOOL_SIZE';

/** Sizes this process's thread pool, before anything has used it, unless the user has. */
export function sizeThreadPool(): void {
  if (process.env[name] !== undefined) return;
  process.env[name] = String(threads);
  // The first use starts the threads, within the call.
  access('/', () => undefined);
  // It is not the business of nix, nor of a command that is run.
  Reflect.deleteProperty(process.env, name);
}
