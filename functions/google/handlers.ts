import { isNicheError } from '../../core/errors.ts';
import { noting } from '../shared/noting.ts';
import { runSweep, runTask } from '../shared/run.ts';
import { messagePublishedType, readTask } from './events.ts';
import type { CloudEvent } from './events.ts';
import type { GoogleRuntime } from './runtime.ts';

/**
 * Publishes what an event tells of. One that fails comes again; one that cannot be read comes again
 * only where that ends among the dead letters: Eventarc's own would return for a day.
 */
export function createPublishHandler(
  runtime: () => GoogleRuntime,
): (event: CloudEvent) => Promise<void> {
  return async (event) => {
    const { deployment, root, ...current } = runtime();
    await current.invoke({ event: event.id, type: event.type }, async (log, counter) => {
      try {
        await noting(log, counter, async () => {
          const task = readTask(event, root);
          if (task) await runTask(deployment, task, { log, counter, timeLeftMs: undefined });
        });
      } catch (error) {
        const isFinal = isNicheError(error, 'malformed-event');
        if (!isFinal || event.type === messagePublishedType) throw error;
      }
    });
  };
}

/** As much of a request as is looked at. */
export interface SweepRequest {
  readonly method: string;
  readonly headers: {
    readonly authorization?: string | undefined;
    readonly host?: string | undefined;
  };
}

export interface SweepResponse {
  status(code: number): { json(body: object): unknown };
}

/** Finishes what was dropped, for nobody but the scheduler. */
export function createSweepHandler(
  runtime: () => GoogleRuntime,
): (request: SweepRequest, response: SweepResponse) => Promise<void> {
  return async ({ method, headers }, response) => {
    const { deployment, checkCaller, ...current } = runtime();
    const status = await current.invoke({ call: 'sweep' }, async (log, counter) => {
      try {
        await checkCaller(headers.authorization, headers.host);
      } catch (error) {
        if (!isNicheError(error, 'caller-denied')) throw error;
        log.warn('refused', { code: error.code, reason: error.message });
        return headers.authorization === undefined ? 401 : 403;
      }
      if (method !== 'POST') return 405;
      try {
        await noting(log, counter, () => runSweep(deployment, { log, counter }));
        return 200;
      } catch {
        // It is in the log; the scheduler needs to know that it is to try again.
        return 500;
      }
    });
    response.status(status).json({ status });
  };
}
