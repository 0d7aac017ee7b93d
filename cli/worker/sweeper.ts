import { setTimeout as sleep } from 'node:timers/promises';

import type { OpenCache } from '../../core/cache/open.ts';
import { sweepBlocked } from '../../core/cache/withdraw/sweep-blocked.ts';
import { messageOf } from '../../core/errors.ts';
import { stopSignal } from '../process/stop-signal.ts';
import type { WorkerLog } from './log.ts';

/** Each check lists the blocked paths. */
const defaultIntervalMs = 60_000;

/**
 * Withdraws blocked paths that a publisher has created meanwhile, until a signal stops it. It is the
 * identity that may delete public objects, and it needs no signing key.
 *
 * @param request.once checks once instead, and throws a failure
 */
export async function runSweeper(
  cache: OpenCache,
  { once, intervalMs }: { readonly once: boolean; readonly intervalMs: number | null },
  log: WorkerLog,
): Promise<void> {
  async function check(): Promise<void> {
    const hashes = await sweepBlocked(cache, Date.now());
    if (hashes.length > 0) log.event({ event: 'withdrawn', hashes });
  }

  if (once) {
    await check();
    return;
  }
  const action = 'withdrawing blocked paths';
  const stop = stopSignal();
  let failing: string | null = null;
  log.event({ event: 'sweeping', cache: cache.config.name, storage: cache.public.url });
  while (!stop.aborted) {
    try {
      await check();
      if (failing !== null) log.event({ event: 'recovered', action });
      failing = null;
    } catch (error) {
      // Reported once, however often it repeats.
      if (failing !== messageOf(error)) log.event({ event: 'failed', action, error });
      failing = messageOf(error);
    }
    await sleep(intervalMs ?? defaultIntervalMs, undefined, { signal: stop }).catch(
      () => undefined,
    );
  }
}
