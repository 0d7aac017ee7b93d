import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { hostname } from 'node:os';
import { fileURLToPath } from 'node:url';

import type { OpenCache, ReadableCache } from '../../core/cache/open.ts';
import { needsLease, takeLease, singlePublisherWarning } from '../../core/cache/publish/lease.ts';
import type { PublisherLease } from '../../core/cache/publish/lease.ts';
import { createLocalPublisher } from '../../core/cache/publish/local-publisher.ts';
import type { LocalPublisherOptions } from '../../core/cache/publish/local-publisher.ts';
import { NicheError } from '../../core/errors.ts';
import { parsePublicKey } from '../../core/nix/keys.ts';
import type { Bucket } from '../../core/storage/bucket.ts';
import { fileError } from '../../core/storage/file/errors.ts';
import { trustedKeys } from '../cache/address.ts';
import type { Nix } from '../nix/nix.ts';
import type { Context } from '../process/context.ts';
import { findSigners } from '../secrets/signing-keys.ts';
import type { Progress } from '../ui/progress.ts';
import type { UploadRequest } from './flags.ts';
import { openLocalRecord } from './local-record.ts';
import { writeReport } from './report.ts';
import type { UploadOptions } from './session.ts';
import type { OpenPublisher } from './upload-publisher.ts';
import { openWaitingUpstreams } from './waiting-upstreams.ts';

/** What an upload needs from the cache and this machine, apart from Nix. */
export type OpenUpload = Pick<
  UploadOptions,
  'cache' | 'publicKeys' | 'record' | 'publisher' | 'exclude' | 'logs' | 'waitMs'
>;

/**
 * Opens what an upload needs. Finds out before a build whether the upload can work.
 *
 * @throws NicheError `wrong-key` when this process is to publish and has no key of the cache;
 *   `publisher-running`; `storage-denied`
 */
export async function openUpload(
  opened: OpenCache,
  request: UploadRequest,
  context: Context,
  progress: Progress,
): Promise<OpenUpload> {
  const upstreams = openWaitingUpstreams(opened, request, context, progress);
  const cache = { ...opened, upstreams };
  await assertWritable(cache.staging);
  if (request.reportFile !== null) await writeReport(request.reportFile, []);
  return {
    cache,
    publicKeys: trustedKeys(request.cache, cache.config).map(parsePublicKey),
    record: await openLocalRecord(cache, context.env),
    publisher: publishesHere(cache, request)
      ? await openPublisher(cache, request.secretKeyFile, context)
      : null,
    exclude: request.exclude,
    logs: request.logs,
    waitMs: request.waitMs,
  };
}

/** A directory has no cloud function that would publish. */
function publishesHere({ staging: root }: OpenCache, { publishing }: UploadRequest): boolean {
  if (publishing === 'automatic') return root.url.startsWith('file:');
  return publishing === 'here';
}

async function assertWritable({ url }: Bucket): Promise<void> {
  if (!url.startsWith('file:')) return;
  try {
    await access(fileURLToPath(url), constants.W_OK | constants.X_OK);
  } catch (error) {
    throw fileError(error, `writing in ${url}`);
  }
}

/**
 * Opens a publisher in this process, with this machine's key. The caller closes it.
 *
 * @throws NicheError `wrong-key`; `publisher-running` when the storage allows one publisher at a time
 *   and another one runs
 */
export async function openPublisher(
  cache: OpenCache,
  secretKeyFile: string | undefined,
  context: Context,
  options: Pick<LocalPublisherOptions, 'withdraws'> = {},
): Promise<OpenPublisher> {
  const signers = await findSigners(cache, secretKeyFile, context);
  const lease = needsLease(cache) ? await takeOnlyLease(cache, context) : undefined;
  const version = `niche ${context.version}`;
  return (onPublished, onEnded) =>
    createLocalPublisher({ ...cache, ...options, signers, version, onPublished, onEnded, lease });
}

async function takeOnlyLease(cache: OpenCache, context: Context): Promise<PublisherLease> {
  context.stderr.write(`niche: ${singlePublisherWarning}\n`);
  return takeLease(cache.private, { holder: `process ${process.pid} on ${hostname()}` });
}

/** @throws NicheError `usage` when the cache is for another store directory than this Nix has */
export function assertSameStore(cache: ReadableCache, nix: Nix): void {
  if (cache.config.storeDir === nix.storeDir) return;
  throw new NicheError(
    'usage',
    `wrong store for the cache "${cache.config.name}": expected "${cache.config.storeDir}", this Nix has "${nix.storeDir}"`,
  );
}
