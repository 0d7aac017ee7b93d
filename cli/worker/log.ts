import type { PublishResult } from '../../core/cache/publish/report.ts';
import { isNicheError, messageOf } from '../../core/errors.ts';
import type { Context } from '../context.ts';
import { count } from '../ui/format.ts';

/** What a worker tells of itself, beside what became of each path. */
export type LogRecord =
  | { readonly event: 'started'; readonly cache: string; readonly storage: string }
  | { readonly event: 'listening'; readonly url: string }
  | { readonly event: 'failed'; readonly action: string; readonly error: unknown }
  | { readonly event: 'recovered'; readonly action: string }
  | { readonly event: 'refused'; readonly error: unknown }
  | { readonly event: 'swept'; readonly deleted: number }
  | { readonly event: 'stopping' }
  | { readonly event: 'abandoned'; readonly running: number }
  | { readonly event: 'stopped'; readonly published: number; readonly rejected: number };

/** The worker's two outputs: what became of paths on stdout, all else on stderr. */
export interface WorkerLog {
  path(published: PublishResult): void;
  tell(record: LogRecord): void;
}

/** @param json whether each line is a JSON document, for a collector of logs */
export function createWorkerLog({ stdout, stderr }: Context, json: boolean): WorkerLog {
  return {
    path(published) {
      stdout.write(`${json ? JSON.stringify(flat(published)) : describePath(published)}\n`);
    },
    tell(record) {
      stderr.write(`${json ? JSON.stringify(asJson(record)) : `niche: ${describe(record)}`}\n`);
    },
  };
}

function flat({ path, upload, outcome }: PublishResult): object {
  return { path, upload, ...outcome };
}

function describePath({ path, outcome }: PublishResult): string {
  const { status, code, message } = outcome;
  const subject = path ?? 'a batch';
  if (status === 'rejected') return `rejected (${code ?? 'failed'}) ${message ?? subject}`;
  if (status === 'waiting') {
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
      return `publishing for ${record.cache} at ${record.storage}`;
    case 'listening':
      return `listening for notifications on ${record.url}, health at ${record.url}/healthz`;
    case 'failed':
      return `${record.action}: ${messageOf(record.error)}; trying again`;
    case 'recovered':
      return `${record.action}: well again`;
    case 'refused':
      return messageOf(record.error);
    case 'swept':
      return `swept away ${count(record.deleted, 'leftover')}`;
    case 'stopping':
      return 'finishing what is under way; a second signal ends it at once';
    case 'abandoned':
      return `${count(record.running, 'batch', 'batches')} took too long and will be begun anew by the next worker`;
    case 'stopped':
      return `${count(record.published, 'path')} published, ${record.rejected} rejected`;
  }
}
