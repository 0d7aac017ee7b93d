import { InvalidArgumentError, Option } from 'commander';
import type { Command } from 'commander';

import type { Context } from '../context.ts';
import { addSecretKeyOption, parseDuration } from '../upload/options.ts';
import { parseListen } from '../worker/listen.ts';
import { runWorker } from '../worker/run.ts';
import type { WorkerFlags } from '../worker/run.ts';

export function addWorker(program: Command, context: Context): void {
  addSecretKeyOption(
    program
      .command('worker')
      .summary('publish what other processes stage')
      .description(
        'Publishes what is staged in a cache whose bucket triggers no function: it lists what is staged on an interval, and with --listen hears of it by the bucket’s notifications. Several workers on one cache do no harm. Ctrl-C or SIGTERM ends it once what it is working on is done.',
      )
      .argument('[url]', 'the cache; else the one that NICHE_CACHE_URL names')
      .option('--once', 'publish what is staged now, then end', false)
      .addOption(
        new Option(
          '--interval <duration>',
          'how often to look for new batches (default: 1s for a directory, 10s for other storage, 60s with --listen)',
        ).argParser(parseInterval),
      )
      .addOption(
        new Option('--sweep-interval <duration>', 'how often to finish what others dropped')
          .argParser(parseInterval)
          .default(10 * 60_000, '10m'),
      )
      .addOption(
        new Option(
          '--listen <host:port>',
          'listen for notifications of S3, MinIO, R2 or B2, and tell of health at /healthz',
        )
          .argParser(parseListen)
          .conflicts('once'),
      )
      .option(
        '--token-file <file>',
        'what senders must show as a bearer token; else NICHE_WEBHOOK_TOKEN',
      )
      .option(
        '--b2-secret-file <file>',
        'with what B2 signs its notifications; else NICHE_B2_SIGNING_SECRET',
      )
      .addOption(
        new Option('--grace <duration>', 'how long what is under way may take after a signal')
          .argParser(parseDuration)
          .default(10 * 60_000, '10m'),
      )
      .option(
        '--json',
        'print what became of each path, and all else, as JSON, a record a line',
        false,
      ),
  )
    .addHelpText(
      'after',
      `
Examples:
  niche worker file:///srv/cache
  niche worker file:///srv/cache --once
  niche worker s3://acme --listen 0.0.0.0:8080 --token-file /run/secrets/webhook`,
    )
    .action(async (url: string | undefined, flags: WorkerFlags) => {
      await runWorker(url, flags, context);
    });
}

function parseInterval(text: string): number {
  const ms = parseDuration(text);
  if (ms > 0) return ms;
  throw new InvalidArgumentError('expected more than nothing');
}
