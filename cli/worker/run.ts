import { constants } from 'node:os';

import type { OpenCache } from '../../core/cache/open.ts';
import { parseS3Url } from '../../core/storage/s3/url.ts';
import { listenForEvents } from '../../functions/worker/webhook.ts';
import type { Webhook } from '../../functions/worker/webhook.ts';
import { createWorker } from '../../functions/worker/worker.ts';
import type { Worker } from '../../functions/worker/worker.ts';
import { nameCache } from '../cache-url.ts';
import type { Context } from '../context.ts';
import { openNamedCache } from '../open-cache.ts';
import { stopSignal } from '../process/stop-signal.ts';
import { openPublisher } from '../upload/options.ts';
import { assertGuarded, readWebhookSecrets } from './listen.ts';
import type { ListenAddress } from './listen.ts';
import { createWorkerLog } from './log.ts';
import type { WorkerLog } from './log.ts';

/** The options of `niche worker`; durations in milliseconds. */
export interface WorkerFlags {
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

/** Between two listings of a directory, which cost nothing, in milliseconds. */
const fileIntervalMs = 1_000;
/** Between two listings of other storage, each a paid request. */
const remoteIntervalMs = 10_000;
/** With notifications, listings only find what those missed. */
const listeningIntervalMs = 60_000;

/**
 * Runs the worker until a signal stops it, or once.
 *
 * @throws NicheError `usage`, `invalid-url`, and with the code of the storage, key or webhook that
 *   cannot be opened
 */
export async function runWorker(
  url: string | undefined,
  flags: WorkerFlags,
  context: Context,
): Promise<void> {
  const log = createWorkerLog(context, flags.json);
  const cache = await openNamedCache(nameCache(url, [], context), context);
  const open = await openPublisher(cache, flags.secretKeyFile, context);
  const counts = { published: 0, rejected: 0 };
  const openHere: typeof open = (_, onEnded) =>
    open((published) => {
      if (published.outcome.status === 'published') counts.published += 1;
      if (published.outcome.status === 'rejected') counts.rejected += 1;
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
        // Tasks in flight must not keep the process alive.
        if (event.event === 'abandoned') context.setExitStatus(128 + constants.signals.SIGTERM);
      },
    });
    await serve(worker, cache, flags, log, context);
  }
  log.tell({ event: 'stopped', ...counts });
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
  // Only now: until here, health checks must see that it still runs.
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
    // Only S3's notifications are supported.
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
