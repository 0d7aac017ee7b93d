import type { Context } from '../context.ts';
import { formatDuration } from '../ui/format.ts';
import type { Progress } from '../ui/progress.ts';
import { printProblems, writeReport } from './options.ts';
import { exitStatusOf, summarize } from './results.ts';
import type { UploadSession } from './session.ts';

/**
 * Waits for what was staged, tells what became of it, and writes the report.
 *
 * @returns the exit status that the upload asks for
 */
export async function finishUpload(
  session: UploadSession,
  options: {
    readonly progress: Progress;
    readonly report: string | undefined;
    readonly publish: boolean;
    readonly startedAt: number;
    readonly context: Context;
  },
): Promise<number> {
  const { progress, report, publish, startedAt } = options;
  const results = await session.settle();
  progress.end();
  printProblems(results, progress);
  progress.line(`${summarize(results)} in ${formatDuration(Date.now() - startedAt)}`);
  if (report !== undefined) await writeReport(report, results);
  const open = session.results.unsettled().length;
  if (open > 0) {
    progress.line(
      publish
        ? `not everything is published; see: niche status ${session.id}`
        : `staged, to be published by a worker; see: niche status ${session.id}`,
    );
  }
  const status = exitStatusOf(results);
  // Staging was all that was asked for.
  return !publish && results.every(({ status: is }) => is !== 'rejected' && is !== 'failed')
    ? 0
    : status;
}
