import { access } from 'node:fs';

/**
 * Threads for disk operations. Syncs that run at the same time share a journal commit, and with
 * libuv's default of 4 threads most of a batch would queue. An idle thread costs almost nothing.
 */
const threads = 32;

const name = 'UV_THREADPOOL_SIZE';

/** Sizes this process's thread pool, unless the user did. Call it before anything uses the pool. */
export function sizeThreadPool(): void {
  if (process.env[name] !== undefined) return;
  process.env[name] = String(threads);
  // The first use of the pool starts its threads, before the call returns.
  access('/', () => undefined);
  // Programs that niche runs must not inherit it.
  Reflect.deleteProperty(process.env, name);
}
