import { sameCache } from '../cache-url.ts';
import { statusRejected } from '../context.ts';
import type { Context } from '../context.ts';
import { unlessInterrupted } from '../process/interrupt.ts';
import type { Interrupt } from '../process/interrupt.ts';
import { describeError } from '../ui/describe-error.ts';
import { count, formatDuration } from '../ui/format.ts';
import type { Progress } from '../ui/progress.ts';
import { messageOf } from '../../core/errors.ts';
import { printProblems, writeReport } from './options.ts';
import type { UploadFlags } from './options.ts';
import { describeLookups, exitStatusOf, summarize } from './results.ts';
import type { UploadSession } from './session.ts';

export interface FinishOptions {
  readonly flags: UploadFlags;
  readonly progress: Progress;
  readonly interrupt: Interrupt;
  readonly startedAt: number;
  readonly context: Context;
}

/**
 * Waits for the upload, which `taking` feeds, and for what it staged; tells what became of it, and
 * writes the report.
 *
 * @returns the exit status that the upload asks for
 */
export async function finishUpload(
  session: UploadSession,
  taking: Promise<void>,
  options: FinishOptions,
): Promise<number> {
  const { flags, progress, interrupt, startedAt } = options;
  let status: number;
  let hasFailed = false;
  try {
    const work = complete(session, taking);
    const outcome = await unlessInterrupted(interrupt.signal, work);
    status = outcome === 'interrupted' ? (interrupt.status() ?? 1) : statusOf(session, flags);
  } catch (error) {
    status = statusRejected;
    hasFailed = true;
    progress.end();
    const [first = '', ...more] = describeError(error, options.context.env);
    for (const line of [`the upload failed: ${first}`, ...more]) progress.line(line);
  }
  progress.end();
  const results = session.results.all();
  printProblems(results, progress);
  const lookups = session.lookups();
  // Of a failure that came before any path nobody can say that there was nothing to upload.
  if (results.length > 0 || !hasFailed) {
    progress.line(`${summarize(results)} in ${formatDuration(Date.now() - startedAt)}`);
  }
  const asked = describeLookups(lookups);
  if (asked !== null) progress.line(asked);
  tellWhatIsLeft(session, options);
  if (flags.report !== undefined) {
    try {
      await writeReport(flags.report, results, lookups);
    } catch (error) {
      progress.line(messageOf(error));
      status ||= 1;
    }
  }
  return status;
}

/** Publishes what is staged also where the rest of it cannot be: then throws why. */
async function complete(session: UploadSession, taking: Promise<void>): Promise<void> {
  const taken = await Promise.allSettled([taking]);
  const settled = await Promise.allSettled([session.settle()]);
  for (const outcome of [...taken, ...settled]) {
    if (outcome.status === 'rejected') throw outcome.reason;
  }
}

function statusOf(session: UploadSession, flags: UploadFlags): number {
  const results = session.results.all();
  // Where another publishes and nobody waits for it, staging was all that was asked for.
  const waits = flags.publish !== false || flags.wait !== undefined;
  return exitStatusOf(
    waits ? results : results.filter(({ status }) => status === 'rejected' || status === 'failed'),
  );
}

function tellWhatIsLeft(
  session: UploadSession,
  { flags, progress, interrupt }: FinishOptions,
): void {
  const open = count(session.results.unsettled().length, 'path');
  const see = `see: niche status${sameCache(flags.cacheUrl)} ${session.openUpload()}`;
  if (interrupt.signal.aborted) {
    const left = session.unfinished().length;
    const what = left > 0 ? `: ${count(left, 'path')} not published yet` : '';
    progress.line(`interrupted${what}; run the same command again to finish`);
  } else if (session.results.unsettled().length > 0) {
    progress.line(
      flags.publish !== false
        ? `${open} not published yet; ${see}`
        : `a worker is to publish ${open}; ${see}`,
    );
  }
}
