import { InvalidArgumentError, Option } from 'commander';
import type { Command } from 'commander';

import { readAuditRecords } from '../../core/cache/audit.ts';
import type { AuditRecord, Provenance } from '../../core/cache/audit.ts';
import { parsePublicKey } from '../../core/nix/keys.ts';
import { storeHash } from '../../core/nix/store-path.ts';
import { parseCacheAddress } from '../cache/address.ts';
import type { Context } from '../process/context.ts';
import { openAsAdministrator } from '../cache/open.ts';
import { parsePathArgument } from '../cache/path-argument.ts';
import { count } from '../ui/format.ts';
import { addExamples } from '../ui/help.ts';
import { addCacheOption } from '../ui/options.ts';

interface AuditFlags {
  readonly cacheUrl?: string;
  readonly since?: Date;
  readonly path?: string;
  readonly uploader?: string;
  readonly json: boolean;
}

export function addAudit(program: Command, context: Context): void {
  const command = addCacheOption(
    program
      .command('audit')
      .summary('list who uploaded paths, and which keys signed them')
      .description(
        'Lists the audit log of a cache, oldest first: a record for each signature, with the uploader, ' +
          'the address, the key and the request. A record may be of an attempt that was never ' +
          'published. Requires read access to audit/ in the private root.',
      ),
  )
    .addOption(
      new Option(
        '--since <when>',
        'records since a date (2026-11-25, 2026-11-25T01:02Z) or age (36h, 7d)',
      ).argParser(parseSince),
    )
    .option('--path <path>', 'records of one store path: itself, a link to it, or its hash')
    .option('--uploader <text>', 'records whose principal, address or upload ID contains the text')
    .option('--json', 'print the records as JSON Lines', false)
    .action(async (flags: AuditFlags) => {
      await audit(flags, context);
    });
  addExamples(
    command,
    'niche audit -u /srv/cache --since 7d',
    'niche audit -u s3://acme --path /nix/store/…-hello-2.12 --json',
    'niche audit -u s3://acme --uploader role/ci-job --since 2026-11-01',
  );
}

async function audit(flags: AuditFlags, context: Context): Promise<void> {
  const cache = await openAsAdministrator(parseCacheAddress(flags.cacheUrl, [], context), context);
  const { storeDir } = cache.config;
  const hash =
    flags.path === undefined ? null : parsePathArgument(flags.path, storeDir, context.cwd).hash;
  let records = 0;
  for await (const record of readAuditRecords(cache.private, flags.since)) {
    if (hash !== null && storeHash(record.path) !== hash) continue;
    if (flags.uploader !== undefined && !isUploadedBy(record, flags.uploader)) continue;
    records += 1;
    context.stdout.write(`${flags.json ? JSON.stringify(record) : describe(record)}\n`);
  }
  context.stderr.write(`niche: ${count(records, 'record')} of ${cache.config.name}\n`);
}

function isUploadedBy({ origin, upload }: AuditRecord, text: string): boolean {
  return [origin?.principal, origin?.sourceAddress, upload].some((each) => each?.includes(text));
}

function describe(record: AuditRecord): string {
  const { at, path, origin, signers, upload } = record;
  const who =
    origin?.principal ?? (origin?.via === 'sweep' ? 'unknown (found by a sweep)' : 'unknown');
  const from = origin?.sourceAddress === undefined ? '' : ` from ${origin.sourceAddress}`;
  const keys = signers.map(({ publicKey, requestId }) => {
    const { name } = parsePublicKey(publicKey);
    return requestId === undefined ? name : `${name} (request ${requestId})`;
  });
  const unclaimed = record.realisation ? 0 : record.unclaimed.count;
  const unclaimedNote = unclaimed > 0 ? `, ${count(unclaimed, 'unclaimed reference')}` : '';
  const adopted = record.realisation ? '' : describeProvenance(record.provenance);
  const of = record.realisation
    ? ` as output of ${record.realisation.drvPath}^${record.realisation.output}`
    : '';
  return `${at} ${path}${of}\n  by ${who}${from}, upload ${upload}; signed with ${keys.join(', ')}${unclaimedNote}${adopted}`;
}

/** Describes why a command signed a path that was in the cache already. */
function describeProvenance(provenance: Provenance | undefined): string {
  switch (provenance?.by) {
    case 'content-address':
      return ', adopted: it is content-addressed';
    case 'signature':
      return `, adopted: signed by ${parsePublicKey(provenance.publicKey).name}`;
    case 'nothing':
      return ', adopted without proof of its origin';
    case undefined:
      return '';
  }
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
