import type { PublishResult } from '../../core/cache/publish/report.ts';
import { isNicheError, messageOf } from '../../core/errors.ts';
import type { Context } from '../process/context.ts';
import { count } from '../ui/format.ts';

/** An event of a worker, apart from the results of paths. */
export type LogRecord =
  | { readonly event: 'started'; readonly cache: string; readonly storage: string }
  | { readonly event: 'listening'; readonly url: string }
  | { readonly event: 'failed'; readonly action: string; readonly error: unknown }
  | { readonly event: 'recovered'; readonly action: string }
  | { readonly event: 'refused'; readonly error: unknown }
  | { readonly event: 'swept'; readonly deleted: number }
  | { readonly event: 'sweeping'; readonly cache: string; readonly storage: string }
  | { readonly event: 'withdrawn'; readonly hashes: readonly string[] }
  | { readonly event: 'stopping' }
  | { readonly event: 'abandoned'; readonly running: number }
  | { readonly event: 'stopped'; readonly published: number; readonly rejected: number };

/** Writes the results of paths to standard output and everything else to standard error. */
export interface WorkerLog {
  path(published: PublishResult): void;
  event(record: LogRecord): void;
}

/** @param json whether each line is a JSON document, for log collectors */
export function createWorkerLog(
  { stdout, stderr }: Pick<Context, 'stdout' | 'stderr'>,
  json: boolean,
): WorkerLog {
  return {
    path(published) {
      stdout.write(`${json ? JSON.stringify(resultOf(published)) : describePath(published)}\n`);
    },
    event(record) {
      stderr.write(`${json ? JSON.stringify(asJson(record)) : `niche: ${describe(record)}`}\n`);
    },
  };
}

function resultOf({ path, upload, outcome }: PublishResult): object {
  return { path, upload, ...outcome };
}

function describePath(result: PublishResult): string {
  const warnings = (result.outcome.warnings ?? []).map((warning) => `, warning: ${warning}`);
  return `${describeStatus(result)}${warnings.join('')}`;
}

function describeStatus({ path, outcome }: PublishResult): string {
  const { status, code, message } = outcome;
  const subject = path ?? 'batch';
  if (status === 'rejected') return `rejected (${code ?? 'failed'}) ${message ?? subject}`;
  if (status === 'waiting') {
    if (code !== undefined) return `waiting (${code}) ${message ?? subject}`;
    return `waiting ${subject}: ${count(outcome.missing?.length ?? 0, 'reference')} missing`;
  }
  return `${status} ${subject}`;
}

function asJson(record: LogRecord): object {
  const at = new Date().toISOString();
  if (!('error' in record)) return { at, ...record };
  const { error, ...rest } = record;
  const code = isNicheError(error) ? error.code : 'internal';
  return { at, ...rest, code, message: messageOf(error) };
}

function describe(record: LogRecord): string {
  switch (record.event) {
    case 'started':
      return `publishing for the cache "${record.cache}" at ${record.storage}`;
    case 'listening':
      return `listening for notifications on ${record.url}, health at ${record.url}/healthz`;
    case 'failed':
      return `${record.action} failed: ${messageOf(record.error)}; retrying`;
    case 'recovered':
      return `${record.action} works again`;
    case 'refused':
      return `notification refused: ${messageOf(record.error)}`;
    case 'swept':
      return `swept: deleted ${count(record.deleted, 'leftover object')}`;
    case 'sweeping':
      return `withdrawing blocked paths of the cache "${record.cache}" at ${record.storage}`;
    case 'withdrawn':
      return `withdrawn: ${record.hashes.join(' ')}`;
    case 'stopping':
      return 'stopping once running batches are finished; a second signal stops at once';
    case 'abandoned':
      return `abandoned ${count(record.running, 'running batch', 'running batches')}: the next worker starts them again`;
    case 'stopped':
      return `stopped: ${count(record.published, 'path')} published, ${record.rejected} rejected`;
  }
}
