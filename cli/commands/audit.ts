import { InvalidArgumentError, Option } from 'commander';
import type { Command } from 'commander';

import { readAuditRecords } from '../../core/cache/audit.ts';
import type { AuditRecord } from '../../core/cache/audit.ts';
import { parsePublicKey } from '../../core/nix/keys.ts';
import { storeHash } from '../../core/nix/store-path.ts';
import { parseCacheAddress } from '../cache/address.ts';
import type { Context } from '../process/context.ts';
import { openCacheAt } from '../cache/open.ts';
import { parsePathArgument } from '../cache/path-argument.ts';
import { count } from '../ui/format.ts';
import { addCacheOption } from '../ui/options.ts';

interface AuditFlags {
  readonly cacheUrl?: string;
  readonly since?: Date;
  readonly path?: string;
  readonly uploader?: string;
  readonly json: boolean;
}

export function addAudit(program: Command, context: Context): void {
  addCacheOption(
    program
      .command('audit')
      .summary('list who staged what, and which keys signed it')
      .description(
        'Lists the audit of a cache, oldest first: a record for each path that was signed, with who staged it and from where, and by which key and request it was signed. One whose path was never published tells of an attempt. It takes read access to audit/ in the private root.',
      ),
  )
    .addOption(
      new Option(
        '--since <when>',
        'only what was signed since: a date as 2026-11-25, with a time as 2026-11-25T01:02:03Z, or an age as 36h or 7d',
      ).argParser(parseSince),
    )
    .option('--path <path>', 'only this store path, or the one with this hash')
    .option(
      '--uploader <text>',
      'only what came from a principal, an address or an upload with this in it',
    )
    .option('--json', 'print each record as it is, one a line', false)
    .addHelpText(
      'after',
      `
Examples:
  niche audit -u file:///srv/cache --since 7d
  niche audit -u s3://acme-public --path /nix/store/…-hello-2.12 --json
  niche audit -u s3://acme-public --uploader role/ci-job --since 2026-11-01`,
    )
    .action(async (flags: AuditFlags) => {
      await audit(flags, context);
    });
}

async function audit(flags: AuditFlags, context: Context): Promise<void> {
  const cache = await openCacheAt(parseCacheAddress(flags.cacheUrl, [], context), context);
  const { storeDir } = cache.config;
  const hash = flags.path === undefined ? null : parsePathArgument(flags.path, storeDir).hash;
  let records = 0;
  for await (const record of readAuditRecords(cache.private, flags.since)) {
    if (hash !== null && storeHash(record.path) !== hash) continue;
    if (flags.uploader !== undefined && !isBy(record, flags.uploader)) continue;
    records += 1;
    context.stdout.write(`${flags.json ? JSON.stringify(record) : describe(record)}\n`);
  }
  context.stderr.write(`niche: ${count(records, 'record')} of ${cache.config.name}\n`);
}

function isBy({ origin, upload }: AuditRecord, text: string): boolean {
  return [origin?.principal, origin?.sourceAddress, upload].some((each) => each?.includes(text));
}

function describe({ at, path, origin, signers, upload, unclaimed }: AuditRecord): string {
  const who =
    origin?.principal ?? (origin?.via === 'sweep' ? 'unknown (found by the sweep)' : 'unknown');
  const from = origin?.sourceAddress === undefined ? '' : ` from ${origin.sourceAddress}`;
  const keys = signers.map(({ publicKey, requestId }) => {
    const { name } = parsePublicKey(publicKey);
    return requestId === undefined ? name : `${name} (request ${requestId})`;
  });
  const mentions = unclaimed.count > 0 ? `, mentions ${count(unclaimed.count, 'path')} more` : '';
  return `${at} ${path}\n  by ${who}${from}, upload ${upload}; signed with ${keys.join(', ')}${mentions}`;
}

const ages: Readonly<Record<string, number>> = { m: 60_000, h: 3_600_000, d: 86_400_000 };

function parseSince(text: string): Date {
  const [, number, unit = ''] = /^([0-9]+)([mhd])$/.exec(text) ?? [];
  const age = ages[unit];
  if (number !== undefined && age !== undefined) return new Date(Date.now() - Number(number) * age);
  const isDate = /^\d{4}-\d{2}-\d{2}(?:T\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?Z)?$/.test(text);
  const date = new Date(text);
  if (isDate && !Number.isNaN(date.getTime())) return date;
  throw new InvalidArgumentError('expected a date such as 2026-11-25, or an age such as 36h or 7d');
}
