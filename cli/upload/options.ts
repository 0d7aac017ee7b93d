import { constants, createWriteStream } from 'node:fs';
import { hostname } from 'node:os';
import { access } from 'node:fs/promises';
import { finished } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';

import { InvalidArgumentError, Option } from 'commander';
import type { Command } from 'commander';

import { NicheError, messageOf } from '../../core/errors.ts';
import { createLocalPublisher } from '../../core/cache/publish/local-publisher.ts';
import { needsLease, singlePublisherWarning, takeLease } from '../../core/cache/publish/lease.ts';
import type { PublisherLease } from '../../core/cache/publish/lease.ts';
import type { OpenCache } from '../../core/cache/open.ts';
import type { LookupCounts } from '../../core/cache/stage/lookups.ts';
import type { Bucket } from '../../core/storage/bucket.ts';
import { fileError } from '../../core/storage/file/errors.ts';
import { parsePublicKey } from '../../core/nix/keys.ts';
import type { Context } from '../context.ts';
import { nonEmpty } from '../environment.ts';
import type { Nix } from '../nix/nix.ts';
import { findSigners } from '../secrets/signing-keys.ts';
import { count } from '../ui/format.ts';
import type { Progress } from '../ui/progress.ts';
import { openLocalRecord } from './local-record.ts';
import type { PathResult } from './results.ts';
import type { OpenPublisher, UploadOptions } from './session.ts';

/** The options that every command which uploads has. */
export interface UploadFlags {
  readonly cacheUrl?: string;
  readonly publicKey?: readonly string[];
  readonly exclude?: RegExp;
  readonly logs: boolean;
  readonly publish: 'local' | false | undefined;
  readonly secretKeyFile?: string;
  readonly wait?: number;
  readonly report?: string;
}

const defaultWaitMs = 120_000;

/**
 * One more value of `--public-key`.
 *
 * @throws NicheError `malformed-key`; an InvalidArgumentError would be told with the value, which
 *   may be a secret key by mistake
 */
export function addPublicKey(text: string, before: readonly string[] = []): readonly string[] {
  parsePublicKey(text);
  return [...before, text];
}

/** Adds `-u` to a command. */
export function addCacheOption(command: Command): Command {
  return command.option(
    '-u, --cache-url <url>',
    'the cache, as URL or URL#KEY; else the one that NICHE_CACHE_URL names',
  );
}

export function addSecretKeyOption(command: Command): Command {
  return command.option(
    '--secret-key-file <file>',
    'the key to sign with, in Nix’s own format; else NICHE_SECRET_KEY_FILE, else the one that init made',
  );
}

export function addUploadOptions(command: Command): Command {
  addSecretKeyOption(addCacheOption(command));
  return command
    .option(
      '--public-key <key>',
      'the key that the cache must have, to be given where it could be swapped on the way; repeatable',
      addPublicKey,
    )
    .addOption(
      new Option(
        '--exclude <regex>',
        'leave out store paths that match, and whatever refers to them',
      ).argParser(parseRegex),
    )
    .option('--no-logs', 'do not upload build logs')
    .addOption(
      new Option(
        '--publish <where>',
        'local: publish in this process, with a key that it can read (default in a directory; elsewhere a cloud function or a `niche worker` publishes)',
      ).choices(['local']),
    )
    .option('--no-publish', 'only stage, and do not wait for it to be published')
    .addOption(
      new Option(
        '--wait <duration>',
        'how long to wait without progress for what is staged to be published (default: 120s, with --no-publish 0s)',
      ).argParser(parseDuration),
    )
    .option('--report <file>', 'write what became of each path, one JSON record a line');
}

/** What an upload to a cache needs besides nix. */
export type OpenUpload = Pick<
  UploadOptions,
  'cache' | 'record' | 'publisher' | 'exclude' | 'logs' | 'waitMs'
>;

/** @throws NicheError `wrong-key` where this machine is to publish and cannot sign */
export async function openUpload(
  cache: OpenCache,
  flags: UploadFlags,
  context: Context,
): Promise<OpenUpload> {
  await assertWritable(cache.private);
  // Found out now, not when all is done.
  if (flags.report !== undefined) await writeReport(flags.report, []);
  return {
    cache,
    record: await openLocalRecord(cache, context.env),
    publisher: publishesHere(cache, flags, context)
      ? await openPublisher(cache, flags.secretKeyFile, context)
      : null,
    exclude: flags.exclude ?? null,
    logs: flags.logs,
    waitMs: flags.wait ?? (flags.publish === false ? 0 : defaultWaitMs),
  };
}

/** A directory has no function that would publish; elsewhere one does, unless a key is named here. */
function publishesHere(
  { private: root }: OpenCache,
  { publish, secretKeyFile }: UploadFlags,
  { env }: Context,
): boolean {
  if (publish !== undefined) return publish === 'local';
  const file = secretKeyFile ?? nonEmpty(env['NICHE_SECRET_KEY_FILE']);
  return file !== undefined || root.url.startsWith('file:');
}

/** @throws NicheError `storage-denied` where nothing could be staged: better now than after a build */
async function assertWritable({ url }: Bucket): Promise<void> {
  if (!url.startsWith('file:')) return;
  try {
    await access(fileURLToPath(url), constants.W_OK | constants.X_OK);
  } catch (error) {
    throw fileError(error, `writing in ${url}`);
  }
}

/**
 * A publisher in this process, with this machine's key. Whoever uses it closes it.
 *
 * @throws NicheError `wrong-key`; `publisher-running` where only one process may publish
 */
export async function openPublisher(
  cache: OpenCache,
  secretKeyFile: string | undefined,
  context: Context,
): Promise<OpenPublisher> {
  const signers = await findSigners(cache, secretKeyFile, context);
  const lease = needsLease(cache) ? await takeOnlyLease(cache, context) : undefined;
  const version = `niche ${context.version}`;
  return (onPublished, onEnded) =>
    createLocalPublisher({ ...cache, signers, version, onPublished, onEnded, lease });
}

async function takeOnlyLease(cache: OpenCache, context: Context): Promise<PublisherLease> {
  context.stderr.write(`niche: ${singlePublisherWarning}\n`);
  return takeLease(cache.private, { holder: `process ${process.pid} on ${hostname()}` });
}

/** @throws NicheError `usage` when the cache is for another store folder than this nix has */
export function assertSameStore(cache: OpenCache, nix: Nix): void {
  if (cache.config.storeDir === nix.storeDir) return;
  throw new NicheError(
    'usage',
    `the cache ${cache.config.name} is for another store: expected ${cache.config.storeDir}, this nix has ${nix.storeDir}`,
  );
}

/** Prints what went wrong with which path. */
export function printProblems(results: readonly PathResult[], progress: Progress): void {
  for (const { path, status, code, message, missing, warnings } of results) {
    if (status === 'rejected') progress.line(`rejected (${code ?? 'failed'}): ${message ?? path}`);
    if (status === 'waiting') {
      const first = (missing ?? []).slice(0, 5).join(', ');
      progress.line(`${path} waits for ${count(missing?.length ?? 0, 'reference')}: ${first}`);
    }
    for (const warning of warnings ?? []) progress.line(`warning: ${path}: ${warning}`);
  }
}

/**
 * A record for each path, and one of what it cost to find out what the cache lacks.
 *
 * @throws NicheError `storage-denied` when the file cannot be written
 */
export async function writeReport(
  file: string,
  results: readonly PathResult[],
  lookups?: LookupCounts,
): Promise<void> {
  try {
    const stream = createWriteStream(file);
    for (const result of results) stream.write(`${JSON.stringify(result)}\n`);
    if (lookups) stream.write(`${JSON.stringify({ lookups })}\n`);
    stream.end();
    await finished(stream);
  } catch (cause) {
    throw new NicheError(
      'storage-denied',
      `cannot write the report to ${file}: ${messageOf(cause)}`,
      { cause },
    );
  }
}

function parseRegex(text: string): RegExp {
  try {
    return new RegExp(text);
  } catch (error) {
    throw new InvalidArgumentError(messageOf(error));
  }
}

const durationUnits: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** `90`, `90s`, `2m`, `500ms` or `1h`, in milliseconds. */
export function parseDuration(text: string): number {
  const [, number, unit = 's'] = /^([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)?$/.exec(text) ?? [];
  const factor = durationUnits[unit];
  if (number === undefined || factor === undefined) {
    throw new InvalidArgumentError('expected a duration such as 30s, 5m or 1h');
  }
  return Number(number) * factor;
}
