import { constants } from 'node:os';

import type { OpenCache } from '../../core/cache/open.ts';
import type { LocalPublisher } from '../../core/cache/publish/local-publisher.ts';
import { toError } from '../../core/errors.ts';
import { parseS3Url } from '../../core/storage/s3/url.ts';
import { listenForEvents } from '../../functions/worker/webhook.ts';
import type { Webhook } from '../../functions/worker/webhook.ts';
import { createWorker } from '../../functions/worker/worker.ts';
import type { Worker } from '../../functions/worker/worker.ts';
import type { CacheAddress } from '../cache/address.ts';
import { openCacheAt } from '../cache/open.ts';
import type { Context } from '../process/context.ts';
import { stopSignal } from '../process/stop-signal.ts';
import { openPublisher } from '../upload/open.ts';
import type { OpenPublisher } from '../upload/upload-publisher.ts';
import { assertGuarded, readWebhookSecrets } from './listen.ts';
import type { ListenAddress, WebhookSecretFiles } from './listen.ts';
import { createWorkerLog } from './log.ts';
import type { WorkerLog } from './log.ts';
import { runSweeper } from './sweeper.ts';

/**
 * The identity of a worker: a `publisher` deletes nothing public, and `sweep` deletes what is blocked and
 * needs no signing key. `all` is both.
 */
export const workerRoles = ['all', 'publisher', 'sweep'] as const;

export type WorkerRole = (typeof workerRoles)[number];

/** What the user wants of a worker. */
export interface WorkerRequest {
  readonly cache: CacheAddress;
  readonly secretKeyFile: string | undefined;
  readonly role: WorkerRole;
  /** Whether it ends once everything staged is published. */
  readonly once: boolean;
  /** Between two checks for batches; null for the default of the cache's storage. */
  readonly intervalMs: number | null;
  readonly sweepIntervalMs: number;
  /** How long running batches may take after a signal to stop. */
  readonly graceMs: number;
  /** Where to receive notifications; null for polling only. */
  readonly listen: (ListenAddress & { readonly secretFiles: WebhookSecretFiles }) | null;
  /** Whether results and the log are JSON Lines. */
  readonly json: boolean;
}

/** For a directory, where a check costs nothing. */
const fileIntervalMs = 1_000;
/** For other storage, where each check is a paid request. */
const remoteIntervalMs = 10_000;
/** With notifications, for those that got lost. */
const listeningIntervalMs = 60_000;

/** Works until a signal stops it, or with `once` until there is nothing more to do. */
export async function runWorker(request: WorkerRequest, context: Context): Promise<void> {
  const log = createWorkerLog(context, request.json);
  const cache = await openCacheAt(request.cache, context);
  if (request.role === 'sweep') {
    await runSweeper(cache, request, log);
    return;
  }
  const withdraws = request.role === 'all';
  const openPlain = await openPublisher(cache, request.secretKeyFile, context, { withdraws });
  const totals = { published: 0, rejected: 0 };
  const open: OpenPublisher = (onPublished, onEnded) =>
    openPlain((published) => {
      if (published.outcome.status === 'published') totals.published += 1;
      if (published.outcome.status === 'rejected') totals.rejected += 1;
      log.path(published);
      onPublished(published);
    }, onEnded);
  if (request.once) await publishOnce(open(() => undefined));
  else await publishUntilStopped(open, cache, request, log, context);
  log.event({ event: 'stopped', ...totals });
}

async function publishOnce(publisher: LocalPublisher): Promise<void> {
  const failures: Error[] = [];
  // A batch that fails each time must not prevent the sweep.
  const steps = [
    () => publisher.submitStaged(),
    () => publisher.idle(),
    () => publisher.sweep(),
    () => publisher.idle(),
  ];
  try {
    for (const step of steps) await step().catch((error: unknown) => failures.push(toError(error)));
  } finally {
    await publisher.close();
  }
  const [failure] = failures;
  if (failure) throw failure;
}

async function publishUntilStopped(
  open: OpenPublisher,
  cache: OpenCache,
  request: WorkerRequest,
  log: WorkerLog,
  context: Context,
): Promise<void> {
  const worker = createWorker({
    open: (onEnded) => open(() => undefined, onEnded),
    intervalMs: request.intervalMs ?? defaultIntervalMs(cache, request),
    sweepIntervalMs: request.sweepIntervalMs,
    graceMs: request.graceMs,
    onEvent(event) {
      log.event(event);
      // Makes the process exit although abandoned batches still run.
      if (event.event === 'abandoned') context.setExitStatus(128 + constants.signals.SIGTERM);
    },
  });
  const stop = stopSignal();
  const webhook = request.listen && (await listen(request.listen, worker, cache, log, context));
  log.event({ event: 'started', cache: cache.config.name, storage: cache.public.url });
  if (webhook) log.event({ event: 'listening', url: webhook.url });
  stop.addEventListener('abort', () => {
    log.event({ event: 'stopping' });
  });
  await worker.run(stop);
  // Closed only now: until here health checks must see that the worker runs.
  await webhook?.close();
}

async function listen(
  { host, port, secretFiles }: NonNullable<WorkerRequest['listen']>,
  worker: Worker,
  cache: OpenCache,
  log: WorkerLog,
  context: Context,
): Promise<Webhook> {
  const secrets = await readWebhookSecrets(secretFiles, context.env);
  const webhook = await listenForEvents({
    host,
    port,
    ...secrets,
    // Only S3 has notifications that niche can read.
    root: cache.staging.url.startsWith('s3:') ? parseS3Url(cache.staging.url) : null,
    onBatch: worker.submit,
    health: worker.health,
    onRefused(error) {
      log.event({ event: 'refused', error });
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
  { staging: root }: OpenCache,
  { listen: isListening }: WorkerRequest,
): number {
  if (isListening) return listeningIntervalMs;
  return root.url.startsWith('file:') ? fileIntervalMs : remoteIntervalMs;
}
