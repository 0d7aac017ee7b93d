import { setTimeout as sleep } from 'node:timers/promises';

import type { OpenCache } from '../../core/cache/open.ts';
import { stagingPrefix } from '../../core/cache/layout.ts';
import { leftoverDays } from '../../core/cache/publish/leftovers.ts';
import { purgeContents } from '../../core/cache/withdraw/purge.ts';
import type { PurgeProgress, PurgeResult } from '../../core/cache/withdraw/purge.ts';
import { NicheError } from '../../core/errors.ts';
import type { Context } from '../process/context.ts';
import { count, formatDuration } from '../ui/format.ts';
import { startProgress } from '../ui/progress.ts';
import { findContents } from './arguments.ts';
import type { BlockArgument } from './arguments.ts';

export interface PurgeRequest {
  readonly targets: readonly BlockArgument[];
  readonly reason: string;
  /** How long publishers may still be at work; null for the default. */
  readonly waitMs: number | null;
  readonly json: boolean;
}

/** Deletes leaked contents from a cache, and prints where else they may be. */
export async function runPurge(
  cache: OpenCache,
  request: PurgeRequest,
  context: Context,
): Promise<readonly string[]> {
  const narHashes = new Set<string>();
  for (const target of request.targets) narHashes.add(await narHashOf(cache, target));
  const progress = startProgress(context, true);
  const purged: string[] = [];
  try {
    // One after the other: only the first waits long, and all are refused by then.
    for (const narHash of narHashes) {
      const result = await purgeContents({
        ...cache,
        narHash,
        why: request.reason,
        waitMs: request.waitMs ?? undefined,
        now: () => new Date(),
        sleep: (ms) => sleep(ms),
        onProgress(now) {
          progress.state(() => describeProgress(now));
        },
      });
      progress.end();
      purged.push(...result.paths);
      await print(cache, narHash, result, request.json, context);
    }
  } finally {
    progress.end();
  }
  return purged;
}

/** @throws NicheError `not-found` */
async function narHashOf(cache: OpenCache, target: BlockArgument): Promise<string> {
  if (target.kind === 'contents') return target.narHash;
  const { narHash } = await findContents(cache, target.hash);
  if (narHash !== undefined) return narHash;
  const name = target.path ?? target.hash;
  throw new NicheError('not-found', `cannot purge ${name}: the cache does not know its contents`, {
    hint: 'pass the NAR hash instead of the path; niche audit --json shows that of each signed path',
  });
}

function describeProgress(progress: PurgeProgress): string {
  return progress.phase === 'searching'
    ? `searched ${count(progress.narInfos, 'narinfo')}`
    : `waiting ${formatDuration(progress.leftMs)} for publishers at work (you can stop and run again)`;
}

async function print(
  cache: OpenCache,
  narHash: string,
  { paths, pending, keys }: PurgeResult,
  json: boolean,
  { stdout }: Context,
): Promise<void> {
  const uploads = await countStagedUploads(cache);
  const base = cache.config.substituter.replace(/\/+$/, '');
  const urls = keys.map((key) => `${base}/${key}`);
  const keepsVersions = cache.public.deleteVersions !== undefined;
  if (json) {
    const record = {
      narHash,
      paths,
      pending,
      deleted: urls,
      keepsVersions,
      stagedUploads: uploads,
    };
    stdout.write(`${JSON.stringify(record)}\n`);
    return;
  }
  const lines = [
    `${narHash}: deleted and refused from now on`,
    ...paths.map((path) => `  ${path}`),
    ...(pending > 0 ? [`${count(pending, 'waiting path')} rejected by the next sweep`] : []),
    'Copies may remain:',
    `- in CDNs and proxies, for up to a year: purge these URLs there`,
    ...urls.map((url) => `    ${url}`),
    '- on machines that have the paths, and in other caches that copied them',
    keepsVersions
      ? '- in the storage’s soft delete, replication and backups'
      : '- in snapshots and backups of the directory',
    ...(uploads > 0
      ? [
          `- in ${count(uploads, 'staged upload')}: the sweep deletes these within ${leftoverDays} days`,
        ]
      : []),
    'Replace the secret: niche cannot take it back from readers.',
  ];
  stdout.write(lines.map((line) => `${line}\n`).join(''));
}

async function countStagedUploads({ staging }: OpenCache): Promise<number> {
  const uploads = new Set<string>();
  for await (const { key } of staging.list(stagingPrefix)) uploads.add(key.split('/')[1] ?? '');
  return uploads.size;
}
