import { isUpstreamOutage } from '../../core/cache/upstreams.ts';
import { messageOf } from '../../core/errors.ts';
import { isRealisationName } from '../../core/nix/realisation.ts';
import { statusNotPublished, statusRejected } from '../process/context.ts';
import type { Context } from '../process/context.ts';
import { unlessInterrupted } from '../process/interrupt.ts';
import type { Interrupt } from '../process/interrupt.ts';
import { describeError } from '../ui/describe-error.ts';
import { count, formatDuration } from '../ui/format.ts';
import type { Progress } from '../ui/progress.ts';
import type { UploadRequest } from './flags.ts';
import { writeReport } from './report.ts';
import {
  describeLookups,
  exitStatusOf,
  isBuiltDifferently,
  isRefused,
  summarize,
} from './results.ts';
import type { PathResult } from './results.ts';
import type { UploadSession } from './session.ts';

export interface FinishOptions {
  readonly request: UploadRequest;
  readonly progress: Progress;
  readonly interrupt: Interrupt;
  readonly startedAtMs: number;
  readonly context: Context;
}

/**
 * Waits until everything is staged and published, then prints the results and writes the report.
 *
 * @param staging ends when everything is staged, see {@link UploadSession.stage}
 * @returns the exit status of the upload
 */
export async function finishUpload(
  session: UploadSession,
  staging: Promise<void>,
  options: FinishOptions,
): Promise<number> {
  const { request, progress, interrupt, startedAtMs, context } = options;
  let status: number;
  let hasFailed = false;
  try {
    const work = complete(session, staging);
    const outcome = await unlessInterrupted(interrupt.signal, work);
    status = outcome === 'interrupted' ? (interrupt.status() ?? 1) : statusOf(session, request);
  } catch (error) {
    // The paths are staged, and a later run may find the upstream.
    status = isUpstreamOutage(error) ? statusNotPublished : statusRejected;
    hasFailed = true;
    progress.lines(describeError(error, context.env, 'upload failed'));
  }
  progress.end();
  const results = session.results.all();
  printProblems(results, request, progress);
  const lookups = session.lookups();
  // After a failure, no results does not mean that there was nothing to upload.
  if (results.length > 0 || !hasFailed) {
    progress.line(`${summarize(results)} in ${formatDuration(Date.now() - startedAtMs)}`);
  }
  const requests = describeLookups(lookups);
  if (requests !== null) progress.line(requests);
  printRepair(results, options);
  printPending(session, options);
  if (request.reportFile !== null) {
    try {
      await writeReport(request.reportFile, results, lookups);
    } catch (error) {
      progress.line(messageOf(error));
      status ||= 1;
    }
  }
  return status;
}

/** Publishes the staged paths even when the others cannot be staged; then throws that failure. */
async function complete(session: UploadSession, staging: Promise<void>): Promise<void> {
  const staged = await Promise.allSettled([staging]);
  const published = await Promise.allSettled([session.publish()]);
  for (const outcome of [...staged, ...published]) {
    if (outcome.status === 'rejected') throw outcome.reason;
  }
}

function statusOf(session: UploadSession, { mustPublish, strict }: UploadRequest): number {
  const results = session.results.all();
  return exitStatusOf(mustPublish ? results : results.filter(isRefused), strict);
}

function printProblems(
  results: readonly PathResult[],
  { strict, cacheOption }: UploadRequest,
  progress: Progress,
): void {
  for (const result of results) {
    const { path, status, code, message, missing = [], warnings = [] } = result;
    if (isBuiltDifferently(result) && !strict) {
      progress.line(`warning: built differently: ${message ?? path}`);
    } else if (status === 'rejected') {
      progress.line(`rejected (${code ?? 'failed'}): ${message ?? path}`);
    }
    // It was not reproducible, or an attacker was faster.
    if (isBuiltDifferently(result) && !isRealisationName(path)) {
      progress.lines([`hint: niche audit${cacheOption} --path ${path}`]);
    }
    if (code === 'unconfirmed') progress.line(`not confirmed: ${message ?? path}`);
    if (status === 'waiting' && code !== undefined) {
      progress.line(`waiting (${code}): ${message ?? path}`);
    } else if (status === 'waiting') {
      const first = missing.slice(0, 5).join(', ');
      progress.line(`${path} waits for ${count(missing.length, 'reference')}: ${first}`);
    }
    for (const warning of warnings) progress.line(`warning: ${path}: ${warning}`);
  }
}

/** Prints how an administrator can make the cache accept paths that others have written to it. */
function printRepair(results: readonly PathResult[], { request, progress }: FinishOptions): void {
  const unverified = results.filter(({ code }) => code === 'unverified-narinfo');
  const [first] = unverified;
  if (!first) return;
  const what = `${count(unverified.length, 'path')} in the cache without its signature`;
  // Without arguments, the command repairs all of them.
  const path = unverified.length === 1 ? ` ${first.path}` : '';
  const command = `niche repair${request.cacheOption}${path}`;
  progress.lines([`niche: ${what}`, `hint: an administrator can run: ${command}`]);
}

function printPending(
  session: UploadSession,
  { request, progress, interrupt }: FinishOptions,
): void {
  if (interrupt.signal.aborted) {
    const left = session.unfinished().length;
    const what = left > 0 ? `: ${count(left, 'path')} not published yet` : '';
    progress.lines([`niche: interrupted${what}`, 'hint: run the same command again to finish']);
    return;
  }
  const pending = session.results.pending().length;
  if (pending === 0) return;
  const what =
    request.publishing === 'elsewhere'
      ? `${count(pending, 'path')} staged, for another process to publish`
      : `${count(pending, 'path')} not published yet`;
  const command = `niche status${request.cacheOption} ${session.pendingUpload()}`;
  progress.lines([`niche: ${what}`, `hint: ${command}`]);
}
