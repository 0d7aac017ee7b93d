import type { Command } from 'commander';

import { NicheError, quote } from '../../core/errors.ts';
import type { Finding, FindingKind } from '../../core/cache/verify/finding.ts';
import { openCache, openCacheReader } from '../../core/cache/open.ts';
import type { OpenCache, ReadableCache } from '../../core/cache/open.ts';
import { isRemotePlainHttp } from '../../core/util/loopback.ts';
import { verifyCache } from '../../core/cache/verify/verify.ts';
import type { VerifySelection, VerifyReport } from '../../core/cache/verify/verify.ts';
import { assertNoUrls, parseCacheAddress } from '../cache/address.ts';
import { statusRejected } from '../process/context.ts';
import type { Context } from '../process/context.ts';
import { ownAccess } from '../cache/open.ts';
import { parsePathArgument } from '../cache/path-argument.ts';
import { count, formatBytes } from '../ui/format.ts';
import { addExamples } from '../ui/help.ts';
import { addCacheOption, addPublicKey } from '../ui/options.ts';
import { startProgress } from '../ui/progress.ts';

interface VerifyFlags {
  readonly cacheUrl?: string;
  readonly closure: boolean;
  readonly publicKey?: readonly string[];
  readonly json: boolean;
}

/** The exit status when nothing is wrong, but not everything could be checked. */
const statusUnchecked = 1;

export function addVerify(program: Command, context: Context): void {
  const command = addCacheOption(
    program
      .command('verify')
      .summary('check the integrity of a cache')
      .description(
        'Reads a cache as an untrusting client would: each narinfo and its signatures, the whole NAR, ' +
          'its listing, its references here or upstream, and the audit log. The exit status is 76 when ' +
          'something is wrong, and 1 when something could not be checked.',
      )
      .argument(
        '[path...]',
        'store paths, links to them, or hashes (default: all paths of the cache)',
      ),
  )
    .option('--closure', 'check the references of the paths too', false)
    .option(
      '--public-key <key>',
      'verify with this key instead of those in niche.json; repeatable',
      addPublicKey,
    )
    .option('--json', 'print the findings and a summary as JSON Lines', false)
    .action(async (paths: string[], flags: VerifyFlags) => {
      await verify(paths, flags, context);
    });
  addExamples(
    command,
    'niche verify -u s3://acme',
    'niche verify -u https://cache.example.org --closure /nix/store/…-hello-2.12',
  );
}

async function verify(
  paths: readonly string[],
  flags: VerifyFlags,
  context: Context,
): Promise<void> {
  assertNoUrls(paths, 'verify', 'a store path');
  const { url, pinnedKeys } = parseCacheAddress(flags.cacheUrl, flags.publicKey ?? [], context);
  const cache = await open(url, context);
  const { config } = cache;
  const progress = startProgress(context, true);
  if (pinnedKeys.length === 0 && isRemotePlainHttp(url)) {
    progress.line(
      'warning: cannot trust public keys sent over plain HTTP: pin them with --public-key',
    );
  }
  const subjects: Record<FindingKind, Set<string>> = {
    wrong: new Set(),
    unchecked: new Set(),
    warning: new Set(),
    note: new Set(),
  };
  const print = (record: object, line: string): void => {
    progress.end();
    context.stdout.write(`${flags.json ? JSON.stringify(record) : line}\n`);
  };
  const report = await verifyCache({
    reader: cache.reader,
    private: isOpen(cache) ? cache.private : null,
    storeDir: config.storeDir,
    publicKeys: pinnedKeys.length > 0 ? pinnedKeys : config.publicKeys,
    upstreams: cache.upstreams,
    keepSignatures: config.keepSignatures,
    selection: selectionOf(paths, flags.closure, cache, context),
    onFinding(finding) {
      subjects[finding.kind].add(finding.subject);
      print(finding, describe(finding));
    },
    onProgress(done) {
      progress.state(
        () =>
          `${count(done.paths, 'path')} verified (${formatBytes(done.narBytes)}), ${subjects.wrong.size} wrong`,
      );
    },
  });
  const counts = {
    wrong: subjects.wrong.size,
    unchecked: subjects.unchecked.size,
    warnings: subjects.warning.size,
  };
  print({ kind: 'summary', ...report, ...counts }, summarize(cache, report, counts));
  context.setExitStatus(
    counts.wrong > 0 ? statusRejected : counts.unchecked > 0 ? statusUnchecked : 0,
  );
}

/** Over HTTP, niche does not open the private root: a forged niche.json could specify any URL. */
async function open(url: string, context: Context): Promise<ReadableCache | OpenCache> {
  const access = ownAccess(context);
  return /^https?:/.test(url) ? openCacheReader(url, access) : openCache(url, access, 'private');
}

function isOpen(cache: ReadableCache | OpenCache): cache is OpenCache {
  return 'private' in cache;
}

function selectionOf(
  paths: readonly string[],
  closure: boolean,
  cache: ReadableCache | OpenCache,
  { cwd }: Context,
): VerifySelection {
  if (paths.length > 0) {
    const { storeDir } = cache.config;
    return { paths: paths.map((text) => parsePathArgument(text, storeDir, cwd)), closure };
  }
  if (isOpen(cache)) return { all: cache.public };
  throw new NicheError(
    'usage',
    `no paths given: cannot list ${quote(cache.reader.url)} over HTTP`,
    {
      hint: 'pass store paths, with --closure to check their references too',
    },
  );
}

const kindWords: Readonly<Record<FindingKind, string>> = {
  wrong: 'wrong',
  unchecked: 'could not check',
  warning: 'warning',
  note: 'note',
};

function describe({ kind, subject, code, message }: Finding): string {
  return `${kindWords[kind]}: ${subject}: ${message} (${code})`;
}

function summarize(
  cache: ReadableCache,
  { paths, narBytes, realisations, audited }: VerifyReport,
  counts: { readonly wrong: number; readonly unchecked: number; readonly warnings: number },
): string {
  const parts = [
    `${counts.wrong === 0 ? 'nothing' : counts.wrong} wrong`,
    ...(counts.unchecked > 0 ? [`${counts.unchecked} could not be checked`] : []),
    ...(counts.warnings > 0 ? [count(counts.warnings, 'warning')] : []),
  ];
  const audit = audited
    ? ''
    : '\nnot checked: the audit log and withdrawn paths, which require access to the private root';
  const traces = realisations > 0 ? `, and ${count(realisations, 'realisation')}` : '';
  return `${count(paths, 'path')} of ${cache.config.name} verified (${formatBytes(narBytes)})${traces}: ${parts.join(', ')}${audit}`;
}
