import { statusRejected } from '../context.ts';
import type { Context } from '../context.ts';
import { unlessInterrupted } from '../interrupt.ts';
import type { Interrupt } from '../interrupt.ts';
import { count, formatDuration } from '../ui/format.ts';
import type { Progress } from '../ui/progress.ts';
import { messageOf } from '../../core/errors.ts';
import { printProblems, writeReport } from './options.ts';
import type { UploadFlags } from './options.ts';
import { exitStatusOf, summarize } from './results.ts';
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
  try {
    const work = taking.then(() => session.settle());
    const outcome = await unlessInterrupted(interrupt.signal, work);
    status = outcome === 'interrupted' ? (interrupt.status() ?? 1) : statusOf(session, flags);
  } catch (error) {
    status = statusRejected;
    progress.end();
    progress.line(`the upload failed: ${messageOf(error)}`);
  }
  progress.end();
  const results = session.results.all();
  printProblems(results, progress);
  progress.line(`${summarize(results)} in ${formatDuration(Date.now() - startedAt)}`);
  if (flags.report !== undefined) await writeReport(flags.report, results);
  tellWhatIsLeft(session, options);
  return status;
}

function statusOf(session: UploadSession, flags: UploadFlags): number {
  const results = session.results.all();
  // Where another publishes and nobody waits for it, staging was all that was asked for.
  const waits = flags.publish || flags.wait !== undefined;
  return exitStatusOf(
    waits ? results : results.filter(({ status }) => status === 'rejected' || status === 'failed'),
  );
}

function tellWhatIsLeft(
  session: UploadSession,
  { flags, progress, interrupt }: FinishOptions,
): void {
  const open = count(session.results.unsettled().length, 'path');
  // Without -u the variable that named the cache names it for the next command too.
  const cache = flags.cacheUrl === undefined ? '' : `-u ${flags.cacheUrl} `;
  const see = `see: niche status ${cache}${session.id}`;
  if (interrupt.signal.aborted) {
    progress.line(
      `interrupted: ${open} staged and not published; run the same command again to finish`,
    );
  } else if (session.results.unsettled().length > 0) {
    progress.line(
      flags.publish
        ? `${open} not published yet; ${see}`
        : `a worker is to publish ${open}; ${see}`,
    );
  }
}
