import type { PublishResult, PublishCall } from '../../core/cache/publish/publisher.ts';
import { sweep } from '../../core/cache/publish/sweep.ts';
import { isNicheError } from '../../core/errors.ts';
import type { Deployment } from './deployment.ts';
import type { Log } from './log.ts';
import type { Counter } from './tally.ts';
import type { Task } from './task.ts';

/** What one invocation reports to, and how long it may still run. */
export interface Invocation {
  readonly log: Log;
  readonly counter: Counter;
  readonly timeLeftMs: PublishCall['timeLeftMs'];
}

/**
 * Does one task. What the time left allows no more of is handed on to the queue.
 *
 * @throws what storage, an upstream or a signer throws: the task is to be done again then
 */
export async function runTask(
  deployment: Deployment,
  task: Task,
  { log, counter, timeLeftMs }: Invocation,
): Promise<void> {
  const { publisher } = await deployment.cache();
  if (task.kind === 'resume') {
    const published = await publisher.resumePath(task.waiting);
    if (published) report(published, log, counter);
    return;
  }
  const { id, origin } = task;
  try {
    const results = await publisher.publishBatch(id, { origin, timeLeftMs });
    if (results.length === 0) log.info('handled already', id);
    for (const published of results) report(published, log, counter);
  } catch (error) {
    if (!isNicheError(error, 'out-of-time')) throw error;
    // Another invocation has its whole time for what is left; what is done it finds done.
    log.info('handed on', { ...id, reason: error.message });
    await deployment.queue.send(task);
  }
}

/** After so long no message of a batch is left in a queue that moves, in milliseconds. */
const overdueMs = 24 * 60 * 60 * 1000;

/**
 * Finishes what was dropped. Staged batches are not published here but handed to the queue, where
 * each has an invocation's whole time. While something waits in it, only those that are overdue are:
 * the others may be in there, and a queue that is never empty must not keep what was lost for ever.
 *
 * @throws the first failure, once everything else is done
 */
export async function runSweep(
  deployment: Deployment,
  { log, counter }: Pick<Invocation, 'log' | 'counter'>,
): Promise<void> {
  const { config, publisher } = await deployment.cache();
  const isBusy = !(await deployment.queue.isEmpty());
  let handedOn = 0;
  const swept = await sweep({
    public: deployment.public,
    private: deployment.private,
    waitingDays: config.limits.waitingDays,
    staleMs: isBusy ? overdueMs : 2 * publisher.timeLimitMs,
    now: deployment.now,
    publisher: {
      ...publisher,
      async publishBatch(id) {
        await deployment.queue.send({ kind: 'publish', id, origin: { via: 'sweep' } });
        handedOn += 1;
        return [];
      },
    },
  });
  for (const published of swept.published) report(published, log, counter);
  log.info('swept', { handedOn, deleted: swept.deleted, ended: swept.published.length, isBusy });
}

/** A line and a count for what became of a path. */
function report(published: PublishResult, log: Log, counter: Counter): void {
  const { path, upload, outcome, narSize } = published;
  const { status, code, message, missing, warnings } = outcome;
  counter.outcome(published);
  log[status === 'rejected' ? 'warn' : 'info'](status, {
    upload,
    path,
    ...(narSize === null ? {} : { narSize }),
    ...(code === undefined ? {} : { code, reason: message }),
    ...(missing === undefined ? {} : { missing: missing.length }),
    ...(warnings === undefined ? {} : { warnings }),
  });
}
