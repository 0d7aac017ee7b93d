import { InvalidArgumentError, Option } from 'commander';
import type { Command } from 'commander';

import { parseCacheAddress } from '../cache/address.ts';
import type { Context } from '../process/context.ts';
import { addExamples } from '../ui/help.ts';
import { addSecretKeyOption, parseDuration } from '../ui/options.ts';
import { parseListen } from '../worker/listen.ts';
import type { ListenAddress, WebhookSecretFiles } from '../worker/listen.ts';
import { runWorker, workerRoles } from '../worker/run.ts';
import type { WorkerRequest, WorkerRole } from '../worker/run.ts';

interface WorkerFlags extends WebhookSecretFiles {
  readonly once: boolean;
  readonly interval?: number;
  readonly sweepInterval: number;
  readonly grace: number;
  readonly listen?: ListenAddress;
  readonly secretKeyFile?: string;
  readonly role: WorkerRole;
  readonly json: boolean;
}

export function addWorker(program: Command, context: Context): void {
  const command = program
    .command('worker')
    .summary('publish what other processes stage')
    .description(
      'Publishes the staged paths of a cache whose bucket triggers no cloud function. It lists staged ' +
        'batches on an interval; with --listen it also receives notifications from the bucket. ' +
        'Several workers on one cache do no harm. On SIGTERM or Ctrl-C it finishes running batches.',
    )
    .argument('[url]', 'cache URL (default: $NICHE_CACHE_URL)')
    .optionsGroup('Publish:')
    .option('--once', 'publish what is staged now, then exit', false)
    .addOption(
      new Option(
        '--interval <duration>',
        'time between checks (default: 1s local, 10s remote, 60s listening)',
      ).argParser(parseInterval),
    )
    .addOption(
      new Option('--sweep-interval <duration>', 'time between sweeps of abandoned batches')
        .argParser(parseInterval)
        .default(10 * 60_000, '10m'),
    )
    .addOption(
      new Option('--grace <duration>', 'time for running batches after a signal to stop')
        .argParser(parseDuration)
        .default(10 * 60_000, '10m'),
    );
  addSecretKeyOption(command)
    .addOption(
      new Option(
        '--role <role>',
        'publisher deletes nothing public; sweep only withdraws blocked paths, without a key',
      )
        .choices(workerRoles)
        .default('all'),
    )
    .optionsGroup('Notifications:')
    .addOption(
      new Option(
        '--listen <host:port>',
        'receive notifications of S3, MinIO, R2 or B2; serve /healthz',
      )
        .argParser(parseListen)
        .conflicts('once'),
    )
    .option('--token-file <file>', 'bearer token of senders (default: $NICHE_WEBHOOK_TOKEN)')
    .option('--b2-secret-file <file>', 'signing secret of B2 (default: $NICHE_B2_SIGNING_SECRET)')
    .optionsGroup('Other:')
    .option('--json', 'print results and log as JSON Lines', false)
    .action(async (url: string | undefined, flags: WorkerFlags) => {
      await runWorker(workerRequest(url, flags, context), context);
    });
  addExamples(
    command,
    'niche worker /srv/cache',
    'niche worker s3://acme --once',
    'niche worker s3://acme --role sweep',
    'niche worker s3://acme --listen 0.0.0.0:8080 --token-file /run/secrets/webhook',
  );
}

function workerRequest(
  url: string | undefined,
  flags: WorkerFlags,
  context: Context,
): WorkerRequest {
  return {
    cache: parseCacheAddress(url, [], context),
    secretKeyFile: flags.secretKeyFile,
    role: flags.role,
    once: flags.once,
    intervalMs: flags.interval ?? null,
    sweepIntervalMs: flags.sweepInterval,
    graceMs: flags.grace,
    listen: flags.listen ? { ...flags.listen, secretFiles: flags } : null,
    json: flags.json,
  };
}

function parseInterval(text: string): number {
  const ms = parseDuration(text);
  if (ms > 0) return ms;
  throw new InvalidArgumentError('expected a duration greater than zero');
}
