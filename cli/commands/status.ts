import type { Command } from 'commander';

import { NicheError, quote } from '../../core/errors.ts';
import { parsePublicKey } from '../../core/nix/keys.ts';
import { shellWord } from '../../core/util/shell.ts';
import { isUploadId } from '../../core/cache/layout.ts';
import type { OpenCache } from '../../core/cache/open.ts';
import type { ReceiptStatus } from '../../core/cache/receipts/receipts.ts';
import {
  readCacheStatus,
  readUploadStatus,
  staleStagedMs,
} from '../../core/cache/status/status.ts';
import type { CacheStatus, UploadReceipt, UploadStatus } from '../../core/cache/status/status.ts';
import { receiptDays } from '../../core/cache/publish/leftovers.ts';
import {
  assertNoUrls,
  parseCacheAddress,
  printedCacheOption,
  trustedKeys,
} from '../cache/address.ts';
import { openCacheAt } from '../cache/open.ts';
import { statusNotPublished, statusRejected } from '../process/context.ts';
import type { Context } from '../process/context.ts';
import { count, formatAge } from '../ui/format.ts';
import { addExamples } from '../ui/help.ts';
import { addCacheOption } from '../ui/options.ts';

interface StatusFlags {
  readonly cacheUrl?: string;
  readonly strict: boolean;
  readonly json: boolean;
}

/** Prints at most this many items of a list. */
const maxShown = 20;
/** Prints at most this many missing references of a path. */
const maxMissingShown = 3;

export function addStatus(program: Command, context: Context): void {
  const command = addCacheOption(
    program
      .command('status')
      .summary('show the result of an upload, or the health of a cache')
      .description(
        'With an upload ID: shows the result of each path. The exit status is 76 when one was rejected, ' +
          'and 75 when one is not published yet. Receipts are unsigned, so published paths are ' +
          'confirmed by their signed narinfos. A path of which the cache has another build is only ' +
          'reported.\n\n' +
          'Without: shows when the cache last published, what is staged, which references are missing, ' +
          'and what was rejected in the last day.',
      )
      .argument('[upload]', 'upload ID, as printed by build and push'),
  )
    .option('--strict', 'exit with 76 when the cache has another build of a path', false)
    .option('--json', 'print the result as JSON', false)
    .action(async (upload: string | undefined, flags: StatusFlags) => {
      await status(upload, flags, context);
    });
  addExamples(
    command,
    'niche status -u s3://acme',
    'niche status -u s3://acme 01980c5e-7b1a-7cc2-a1f0-3d5a2f6f8a10',
  );
}

async function status(
  upload: string | undefined,
  flags: StatusFlags,
  context: Context,
): Promise<void> {
  assertNoUrls(upload === undefined ? [] : [upload], 'status', 'an upload ID');
  const address = parseCacheAddress(flags.cacheUrl, [], context);
  const cache = await openCacheAt(address, context, upload === undefined ? 'private' : 'staging');
  const now = new Date();
  if (upload === undefined) {
    const found = await readCacheStatus(cache, now);
    print(context, flags, found, () => describeCache(cache, found, now));
    return;
  }
  const found = await readUpload(cache, upload, trustedKeys(address, cache.config));
  const cacheOption = printedCacheOption(flags.cacheUrl);
  print(context, flags, found, () => describeUpload(found, now, cacheOption));
  const { receipts, staged } = found;
  const isRejected = receipts.some(
    (it) => it.status === 'rejected' && (flags.strict || it.available !== true),
  );
  const isStaged = staged === null ? receipts.length === 0 : staged.length > 0;
  const isOpen =
    isStaged || receipts.some((it) => it.status === 'waiting' || it.unconfirmed !== undefined);
  context.setExitStatus(isRejected ? statusRejected : isOpen ? statusNotPublished : 0);
}

function print(
  context: Context,
  { json }: StatusFlags,
  found: object,
  describe: () => readonly string[],
): void {
  context.stdout.write(json ? `${JSON.stringify(found)}\n` : `${describe().join('\n')}\n`);
}

async function readUpload(
  cache: OpenCache,
  upload: string,
  publicKeys: readonly string[],
): Promise<UploadStatus> {
  if (!isUploadId(upload)) {
    throw new NicheError('usage', `invalid upload ID: expected a UUID, got ${quote(upload)}`);
  }
  const found = await readUploadStatus(cache, upload, publicKeys.map(parsePublicKey));
  if (found) return found;
  throw new NicheError(
    'not-found',
    `no upload ${quote(upload)} at ${quote(cache.staging.url)}: it staged nothing, or its results expired after ${receiptDays} days`,
  );
}

/** What {@link describeUpload} groups receipts by. */
type ShownStatus = ReceiptStatus | 'unconfirmed' | 'different';

const shownStatuses: readonly (readonly [ShownStatus, string])[] = [
  ['rejected', 'rejected'],
  ['different', 'built differently'],
  ['unconfirmed', 'not confirmed'],
  ['waiting', 'waiting'],
  ['published', 'published'],
  ['exists', 'already there'],
];

function shownStatusOf({ status, unconfirmed, available }: UploadReceipt): ShownStatus {
  if (available === true) return 'different';
  return unconfirmed === undefined ? status : 'unconfirmed';
}

function describeUpload(found: UploadStatus, now: Date, cacheOption: string): string[] {
  const { upload, startedAt, receipts, staged } = found;
  const groups = shownStatuses.map(([status, title]) => ({
    title,
    receipts: receipts.filter((receipt) => shownStatusOf(receipt) === status),
  }));
  const totals = groups
    .filter((group) => group.receipts.length > 0)
    .map((group) => `${group.receipts.length} ${group.title}`);
  const stagedTotal =
    staged && staged.length > 0 ? [`${count(staged.length, 'batch', 'batches')} staged`] : [];
  const summary = [...totals, ...stagedTotal].join(', ');
  return [
    `upload ${upload}, started ${ago(startedAt, now)}`,
    summary === '' ? 'no results yet' : summary,
    ...(staged === null ? ['these credentials cannot list what else is staged'] : []),
    ...groups.flatMap((group) =>
      shown(group.receipts, (receipt) => describeReceipt(receipt, cacheOption)),
    ),
    ...shown(staged ?? [], ({ batch, stagedAt, paths }) => {
      const what = paths === null ? 'its manifest cannot be read' : count(paths.length, 'path');
      return `staged ${ago(stagedAt, now)}: batch ${batch}: ${what}`;
    }),
  ];
}

function describeReceipt(receipt: UploadReceipt, cacheOption: string): string {
  const { status, subject, path = `batch ${subject}`, code, message, missing = [] } = receipt;
  if (receipt.unconfirmed !== undefined) {
    return `not confirmed: ${path}\n  its receipt reports "${status}", but ${receipt.unconfirmed}`;
  }
  const more = missing.length > maxMissingShown ? ['    …'] : [];
  return [
    status === 'rejected'
      ? `${receipt.available === true ? 'built differently' : 'rejected'}: ${path} (${code ?? 'failed'})`
      : `${status === 'exists' ? 'already there' : status}: ${path}`,
    ...(message === undefined ? [] : [`  ${message}`]),
    ...(receipt.available === true ? [`  niche audit${cacheOption} --path ${path}`] : []),
    ...(missing.length > 0 ? [`  missing ${count(missing.length, 'reference')}:`] : []),
    ...missing.slice(0, maxMissingShown).map((reference) => `    ${reference}`),
    ...more,
    ...(receipt.warnings ?? []).map((warning) => `  warning: ${warning}`),
  ].join('\n');
}

function describeCache(cache: OpenCache, found: CacheStatus, now: Date): string[] {
  const { lastPublished, staged, waiting, rejected } = found;
  const published =
    lastPublished === null
      ? `nothing in the last ${receiptDays} days`
      : `${ago(lastPublished, now)} (${lastPublished})`;
  return [
    `${cache.config.name} at ${cache.public.url}`,
    `last publish: ${published}`,
    `staged: ${staged.batches === 0 ? 'nothing' : count(staged.batches, 'batch', 'batches')}`,
    ...describeStale(cache, staged.stale, now),
    `waiting: ${waiting.paths === 0 ? 'nothing' : `${count(waiting.paths, 'path')} for ${count(waiting.references, 'reference')}`}`,
    ...shown(
      waiting.missing,
      ({ hash, path, waiters, first }) => {
        const age = first ? `, since ${formatAge(ageOf(first.since, now))}` : '';
        if (path !== null && path === first?.path) {
          return `  ${path}\n    waiting because an upstream has an unusable narinfo of it${age}`;
        }
        const since = first ? `${age}: ${first.path}` : '';
        return `  ${path ?? hash}\n    ${count(waiters, 'path')} waiting${since}${waiters > 1 ? ', …' : ''}`;
      },
      waiting.references,
    ),
    `rejected in the last day: ${rejected.count === 0 ? 'nothing' : rejected.count}`,
    ...shown(
      rejected.latest,
      ({ upload, path, code, message, at }) =>
        `  ${path ?? 'a whole batch'} (${code})\n    ${message}\n    ${ago(at, now)}, upload ${upload}`,
      rejected.count,
    ),
  ];
}

function describeStale(
  cache: OpenCache,
  stale: CacheStatus['staged']['stale'],
  now: Date,
): string[] {
  const [oldest] = stale;
  if (!oldest) return [];
  return [
    `  ${stale.length} for more than ${formatAge(staleStagedMs)}, the oldest ${ago(oldest.stagedAt, now)}: is a publisher running?`,
    `  to publish it, run: niche worker --once ${shellWord(cache.public.url)}`,
  ];
}

/** Describes the first items, and counts the others. */
function shown<T>(
  items: readonly T[],
  describe: (item: T) => string,
  total: number = items.length,
): string[] {
  const first = items.slice(0, maxShown);
  const more = total - first.length;
  return [...first.map(describe), ...(more > 0 ? [`  … and ${more} more (see --json)`] : [])];
}

function ageOf(time: string, now: Date): number {
  return now.getTime() - Date.parse(time);
}

function ago(time: string, now: Date): string {
  return `${formatAge(ageOf(time, now))} ago`;
}
