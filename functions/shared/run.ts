import type { PublishCall } from '../../core/cache/publish/publish-batch.ts';
import { sweep } from '../../core/cache/publish/sweep.ts';
import { withdrawRefused } from '../../core/cache/withdraw/withdraw.ts';
import { isNicheError } from '../../core/errors.ts';
import type { Deployment } from './deployment.ts';
import type { Job } from './job.ts';
import { logOutcome } from './log-outcomes.ts';
import type { Reporting } from './log-outcomes.ts';

/** The reporting of an invocation, and the time that it has left. */
export interface Invocation extends Reporting {
  readonly timeLeftMs: PublishCall['timeLeftMs'];
}

/**
 * Runs one job. Sends it to the queue again if the time left is too short for the rest of it.
 *
 * @throws NicheError with the code of the storage, upstream or signer that failed; the queue must
 *   deliver the job again
 */
export async function runJob(
  deployment: Deployment,
  job: Job,
  invocation: Invocation,
): Promise<void> {
  const { log, timeLeftMs } = invocation;
  const { config, publisher } = await deployment.cache();
  if (job.kind === 'withdraw') {
    const { storeHash } = job;
    // A forged job does nothing: the blocklist decides.
    const isBlocked = await withdrawRefused({ ...deployment, config }, storeHash);
    log.info(isBlocked ? 'withdrawn' : 'not blocked', { storeHash });
    return;
  }
  if (job.kind === 'resume') {
    const published = await publisher.resumePath(job.waiting);
    if (published) logOutcome(published, invocation);
    return;
  }
  const { id, origin } = job;
  try {
    const results = await publisher.publishBatch(id, { origin, timeLeftMs });
    if (results.length === 0) log.info('handled already', id);
    for (const published of results) logOutcome(published, invocation);
  } catch (error) {
    if (!isNicheError(error, 'out-of-time')) throw error;
    // The next invocation starts with its full time, and skips what is published.
    log.info('handed on', { ...id, reason: error.message });
    await deployment.queue.send(job);
  }
}

/** A batch older than this has no message in a working queue any more, in milliseconds. */
const overdueMs = 24 * 60 * 60 * 1000;

/**
 * Finishes abandoned uploads. Sends staged batches to the queue, so that each gets the full time of
 * an invocation. While the queue is busy, sends only overdue batches: the others may be in it. A
 * queue that never empties must not delay a lost batch for ever.
 *
 * @throws the first error, after everything else is done
 */
export async function runSweep(deployment: Deployment, reporting: Reporting): Promise<void> {
  const { config, publisher } = await deployment.cache();
  const isBusy = !(await deployment.queue.isEmpty());
  let handedOn = 0;
  const swept = await sweep({
    public: deployment.public,
    staging: deployment.staging,
    private: deployment.private,
    waitingDays: config.limits.waitingDays,
    staleMs: isBusy ? overdueMs : 2 * publisher.timeLimitMs,
    now: deployment.now,
    // Leaves time for the last path and for deleting leftovers.
    signal: AbortSignal.timeout(publisher.timeLimitMs / 2),
    publisher: {
      ...publisher,
      async publishBatch(id) {
        await deployment.queue.send({ kind: 'publish', id, origin: { via: 'sweep' } });
        handedOn += 1;
        return [];
      },
    },
  });
  for (const published of swept.published) logOutcome(published, reporting);
  reporting.log.info('swept', {
    handedOn,
    withdrawn: swept.withdrawn.length,
    deleted: swept.deleted,
    ended: swept.published.length,
    isBusy,
  });
}
