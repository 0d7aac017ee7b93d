import { setTimeout as sleep } from 'node:timers/promises';

import { Option } from 'commander';
import type { Command } from 'commander';

import { isNicheError, messageOf } from '../../core/errors.ts';
import type { Published } from '../../core/cache/publisher.ts';
import { nameCache } from '../cache-url.ts';
import { openNamedCache } from '../open-cache.ts';
import type { Context } from '../context.ts';
import { stopSignal } from '../stop-signal.ts';
import { count } from '../ui/format.ts';
import { addSecretKeyOption, openPublisher, parseDuration } from '../upload/options.ts';

interface WorkerFlags {
  readonly once: boolean;
  readonly interval: number;
  readonly secretKeyFile?: string;
  readonly json: boolean;
}

/** Between two sweeps, in milliseconds. */
const sweepIntervalMs = 10 * 60 * 1000;

export function addWorker(program: Command, context: Context): void {
  addSecretKeyOption(
    program
      .command('worker')
      .summary('publish what other processes stage')
      .description(
        'Publishes what is staged in a cache whose bucket triggers no function. Several workers on one cache do no harm. Ctrl-C or SIGTERM ends it once what it is working on is done.',
      )
      .argument('[url]', 'the cache; else the one that NICHE_CACHE_URL names')
      .option('--once', 'publish what is staged now, then end', false)
      .addOption(
        new Option('--interval <duration>', 'how often to look for new batches')
          .argParser(parseDuration)
          .default(1_000, '1s'),
      )
      .option('--json', 'print what became of each path as JSON, one record a line', false),
  )
    .addHelpText(
      'after',
      `
Examples:
  niche worker file:///srv/cache
  niche worker file:///srv/cache --once`,
    )
    .action(async (url: string | undefined, flags: WorkerFlags) => {
      await work(url, flags, context);
    });
}

async function work(url: string | undefined, flags: WorkerFlags, context: Context): Promise<void> {
  const cache = await openNamedCache(nameCache(url, [], context));
  const open = await openPublisher(cache, flags.secretKeyFile, context);
  const tally = { published: 0, rejected: 0 };
  const publisher = open((published) => {
    if (published.outcome.status === 'published') tally.published += 1;
    if (published.outcome.status === 'rejected') tally.rejected += 1;
    context.stdout.write(flags.json ? `${JSON.stringify(flat(published))}\n` : describe(published));
  });
  const stop = stopSignal();
  stop.addEventListener('abort', () => {
    context.stderr.write('niche: finishing what is under way; a second signal ends it at once\n');
  });
  if (!flags.once)
    context.stderr.write(`niche: publishing for ${cache.config.name} at ${cache.public.url}\n`);

  let sweptAt = -Infinity;
  do {
    try {
      await publisher.submitStaged();
      await publisher.idle();
      if (Date.now() - sweptAt >= sweepIntervalMs) {
        await publisher.sweep();
        sweptAt = Date.now();
      }
    } catch (error) {
      // What failed stays staged. A worker that serves outlives an outage; once is once.
      if (flags.once || !isNicheError(error)) throw error;
      context.stderr.write(`niche: ${messageOf(error)}; trying again\n`);
    }
    if (flags.once || stop.aborted) break;
    await sleep(flags.interval, undefined, { signal: stop }).catch(() => undefined);
  } while (!stop.aborted);
  context.stderr.write(
    `niche: ${count(tally.published, 'path')} published, ${tally.rejected} rejected\n`,
  );
}

function flat({ path, upload, outcome }: Published): object {
  return { path, upload, ...outcome };
}

function describe({ path, outcome }: Published): string {
  const { status, code, message } = outcome;
  const subject = path ?? 'a batch';
  if (status === 'rejected') return `rejected (${code ?? 'failed'}) ${message ?? subject}\n`;
  if (status === 'waiting') {
    return `waiting ${subject}: ${count(outcome.missing?.length ?? 0, 'reference')} missing\n`;
  }
  return `${status} ${subject}\n`;
}
