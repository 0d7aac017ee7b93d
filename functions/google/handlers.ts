import { isNicheError } from '../../core/errors.ts';
import { logFailures } from '../shared/log-outcomes.ts';
import { runJob, runSweep } from '../shared/run.ts';
import { messagePublishedType, readJob, readWithdrawal } from './events.ts';
import type { CloudEvent } from './events.ts';
import type { GoogleRuntime } from './runtime.ts';

/**
 * Publishes the batch of an event. A failed event is delivered again. A malformed message of niche's
 * own topic is, too, and ends in the dead-letter topic. A malformed event of the bucket is dropped:
 * its Eventarc trigger has no dead-letter topic and would deliver it for a day.
 */
export function createPublishHandler(
  runtime: () => GoogleRuntime,
): (event: CloudEvent) => Promise<void> {
  return async (event) => {
    const { deployment, root, ...current } = runtime();
    await current.invoke({ event: event.id, type: event.type }, async (reporting) => {
      try {
        await logFailures(reporting, async () => {
          const job = readJob(event, root);
          if (job) await runJob(deployment, job, { ...reporting, timeLeftMs: undefined });
        });
      } catch (error) {
        const isFinal = isNicheError(error, 'malformed-event');
        if (!isFinal || event.type === messagePublishedType) throw error;
      }
    });
  };
}

/** The used fields of a request. */
export interface SweepRequest {
  readonly method: string;
  readonly headers: {
    readonly authorization?: string | undefined;
    readonly host?: string | undefined;
  };
  /** The framework parses JSON. */
  readonly body?: unknown;
}

export interface SweepResponse {
  status(code: number): { json(body: object): unknown };
}

/**
 * Sweeps the cache for Cloud Scheduler, and withdraws paths for the push subscription. Both send
 * the token of one service account, and nobody else may call it. A failed withdrawal is delivered again.
 */
export function createSweepHandler(
  runtime: () => GoogleRuntime,
): (request: SweepRequest, response: SweepResponse) => Promise<void> {
  return async ({ method, headers, body }, response) => {
    const { deployment, checkToken, ...current } = runtime();
    const status = await current.invoke({ call: 'sweep' }, async (reporting) => {
      try {
        await checkToken(headers.authorization, headers.host);
      } catch (error) {
        if (!isNicheError(error, 'caller-denied')) throw error;
        reporting.log.warn('refused', { code: error.code, reason: error.message });
        return headers.authorization === undefined ? 401 : 403;
      }
      if (method !== 'POST') return 405;
      try {
        await logFailures(reporting, async () => {
          const job = readWithdrawal(body);
          if (job) await runJob(deployment, job, { ...reporting, timeLeftMs: undefined });
          else await runSweep(deployment, reporting);
        });
        return 200;
      } catch {
        // The error is logged; the status makes the caller retry.
        return 500;
      }
    });
    response.status(status).json({ status });
  };
}
