import { constants } from 'node:os';

import { InvalidArgumentError, Option } from 'commander';
import type { Command } from 'commander';

import type { OpenCache } from '../../core/cache/open.ts';
import { parseS3Url } from '../../core/storage/s3/url.ts';
import { listenForEvents } from '../../functions/worker/webhook.ts';
import type { Webhook } from '../../functions/worker/webhook.ts';
import { createWorker } from '../../functions/worker/worker.ts';
import type { Worker } from '../../functions/worker/worker.ts';
import { nameCache } from '../cache-url.ts';
import { openNamedCache } from '../open-cache.ts';
import type { Context } from '../context.ts';
import { stopSignal } from '../process/stop-signal.ts';
import { addSecretKeyOption, openPublisher, parseDuration } from '../upload/options.ts';
import { assertGuarded, parseListen, readWebhookSecrets } from '../worker/listen.ts';
import type { ListenAddress } from '../worker/listen.ts';
import { createWorkerLog } from '../worker/log.ts';
import type { WorkerLog } from '../worker/log.ts';

interface WorkerFlags {
  readonly once: boolean;
  readonly interval?: number;
  readonly sweepInterval: number;
  readonly grace: number;
  readonly listen?: ListenAddress;
  readonly tokenFile?: string;
  readonly b2SecretFile?: string;
  readonly secretKeyFile?: string;
  readonly json: boolean;
}

/** Between two looks at a directory, where a look costs nothing, in milliseconds. */
const fileIntervalMs = 1_000;
/** At other storage each look is a request that is paid for. */
const remoteIntervalMs = 10_000;
/** With notifications it is for what they missed. */
const listeningIntervalMs = 60_000;

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
      await work(url, flags, context);
    });
}

async function work(url: string | undefined, flags: WorkerFlags, context: Context): Promise<void> {
  const log = createWorkerLog(context, flags.json);
  const cache = await openNamedCache(nameCache(url, [], context), context);
  const open = await openPublisher(cache, flags.secretKeyFile, context);
  const tally = { published: 0, rejected: 0 };
  const openHere: typeof open = (_, onEnded) =>
    open((published) => {
      if (published.outcome.status === 'published') tally.published += 1;
      if (published.outcome.status === 'rejected') tally.rejected += 1;
      log.path(published);
    }, onEnded);
  if (flags.once) {
    const publisher = openHere(() => undefined);
    try {
      await publisher.submitStaged();
      await publisher.idle();
      await publisher.sweep();
    } finally {
      await publisher.close();
    }
  } else {
    const worker = createWorker({
      open: (onEnded) => openHere(() => undefined, onEnded),
      intervalMs: flags.interval ?? defaultIntervalMs(cache, flags),
      sweepIntervalMs: flags.sweepInterval,
      graceMs: flags.grace,
      onEvent(event) {
        log.tell(event);
        // What is left under way must not keep the process.
        if (event.event === 'abandoned') context.setExitStatus(128 + constants.signals.SIGTERM);
      },
    });
    await serve(worker, cache, flags, log, context);
  }
  log.tell({ event: 'stopped', ...tally });
}

async function serve(
  worker: Worker,
  cache: OpenCache,
  flags: WorkerFlags,
  log: WorkerLog,
  context: Context,
): Promise<void> {
  const stop = stopSignal();
  const webhook = flags.listen && (await listen(flags.listen, worker, cache, flags, log, context));
  log.tell({ event: 'started', cache: cache.config.name, storage: cache.public.url });
  if (webhook) log.tell({ event: 'listening', url: webhook.url });
  stop.addEventListener('abort', () => {
    log.tell({ event: 'stopping' });
  });
  await worker.run(stop);
  // Until now, so that whoever asks for its health sees that it still works.
  await webhook?.close();
}

async function listen(
  { host, port }: ListenAddress,
  worker: Worker,
  cache: OpenCache,
  flags: WorkerFlags,
  log: WorkerLog,
  context: Context,
): Promise<Webhook> {
  const secrets = await readWebhookSecrets(flags, context.env);
  const webhook = await listenForEvents({
    host,
    port,
    ...secrets,
    // Of other storages no notifications are known.
    root: cache.private.url.startsWith('s3:') ? parseS3Url(cache.private.url) : null,
    onBatch: worker.submit,
    health: worker.health,
    onRefused(error) {
      log.tell({ event: 'refused', error });
    },
  });
  try {
    assertGuarded(webhook.address, secrets);
  } catch (error) {
    await webhook.close();
    throw error;
  }
  return webhook;
}

function defaultIntervalMs(
  { private: root }: OpenCache,
  { listen: isListening }: WorkerFlags,
): number {
  if (isListening) return listeningIntervalMs;
  return root.url.startsWith('file:') ? fileIntervalMs : remoteIntervalMs;
}

function parseInterval(text: string): number {
  const ms = parseDuration(text);
  if (ms > 0) return ms;
  throw new InvalidArgumentError('expected more than nothing');
}
