import type { Command } from 'commander';

import { NicheError, quote } from '../../core/errors.ts';
import { cacheInfoKey } from '../../core/cache/layout.ts';
import { openCacheReader } from '../../core/cache/open.ts';
import type { ReadableCache } from '../../core/cache/open.ts';
import { readText } from '../../core/cache/objects.ts';
import { readNarInfo } from '../../core/cache/read-narinfo.ts';
import { checkSignatures } from '../../core/cache/verify/signatures.ts';
import type { CheckedSignature, SignatureVerdict } from '../../core/cache/verify/signatures.ts';
import { parseCacheInfo } from '../../core/nix/cache-info.ts';
import type { NarInfo } from '../../core/nix/narinfo.ts';
import { isRemotePlainHttp } from '../../core/util/loopback.ts';
import { assertNoUrls, trustedKeys, parseCacheAddress } from '../cache/address.ts';
import type { Context } from '../process/context.ts';
import { ownAccess } from '../cache/open.ts';
import { parsePathArgument } from '../cache/path-argument.ts';
import { formatBytes, formatExactBytes } from '../ui/format.ts';
import { addExamples } from '../ui/help.ts';
import { addCacheOption } from '../ui/options.ts';

interface ShowFlags {
  readonly cacheUrl?: string;
  readonly json: boolean;
}

export function addShow(program: Command, context: Context): void {
  const command = addCacheOption(
    program
      .command('show')
      .summary('show a cache, or one of its paths')
      .description(
        'Shows the configuration of a cache or, for a store path, its narinfo and which signatures ' +
          'verify. `niche verify` checks more.',
      )
      .argument('[path]', 'store path, a link to it, or its hash'),
  )
    .option('--json', 'print the result as JSON', false)
    .action(async (path: string | undefined, flags: ShowFlags) => {
      await show(path, flags, context);
    });
  addExamples(
    command,
    'niche show -u /srv/cache',
    'niche show -u /srv/cache ./result',
    'niche show -u https://cache.example.org /nix/store/…-hello-2.12',
  );
}

async function show(path: string | undefined, flags: ShowFlags, context: Context): Promise<void> {
  assertNoUrls(path === undefined ? [] : [path], 'show', 'a store path');
  const address = parseCacheAddress(flags.cacheUrl, [], context);
  const cache = await openCacheReader(address.url, ownAccess(context));
  const keys = trustedKeys(address, cache.config);
  if (path !== undefined && address.pinnedKeys.length === 0 && isRemotePlainHttp(address.url)) {
    const pin = 'pin one after the URL, as URL#KEY';
    context.stderr.write(`niche: warning: cannot trust public keys sent over plain HTTP: ${pin}\n`);
  }
  const [document, lines] =
    path === undefined ? await showCache(cache) : await showPath(cache, path, keys, context);
  context.stdout.write(flags.json ? `${JSON.stringify(document)}\n` : formatLines(lines));
}

/** The result as JSON, and as lines for people. */
type Shown = readonly [document: object, lines: readonly Line[]];

/** A name with its values, the further ones below the first. */
type Line = readonly [name: string, ...values: string[]];

async function showCache({ config, reader }: ReadableCache): Promise<Shown> {
  const text = await readText(reader, cacheInfoKey);
  const priority = text === null ? null : parseCacheInfo(text).priority;
  const { compression, limits } = config;
  const level = compression.kind === 'zstd' ? `, level ${compression.level}` : '';
  return [
    { url: reader.url, ...config, priority },
    [
      ['name', config.name],
      ['read here', reader.url],
      ['substituter', config.substituter],
      ['storage', config.storage],
      ['staging', config.staging],
      ['private', config.private],
      ['store', config.storeDir],
      ['public keys', ...config.publicKeys],
      ['compression', `${compression.kind}${level}`],
      ...(config.listings === false ? [['listings', 'none'] as const] : []),
      ['upstreams', ...config.upstreams.map(({ url, publicKey }) => `${url} (${publicKey})`)],
      ...(config.keepSignatures ? [['keeps', ...config.keepSignatures] as const] : []),
      [
        'limits',
        `NARs up to ${formatBytes(limits.maxNarBytes)}`,
        `unclaimed references: ${limits.unclaimed}`,
        `missing references: rejected after ${limits.waitingDays} days`,
      ],
      ['priority', priority === null ? 'not set' : String(priority)],
    ],
  ];
}

const verdictWords: Readonly<Record<SignatureVerdict, string>> = {
  cache: 'valid, by a key of the cache',
  upstream: 'valid, by a key of an upstream',
  kept: 'valid, by a key of keepSignatures',
  bad: 'invalid',
  unknown: 'not checked, by an unknown key',
};

async function showPath(
  { config, reader, upstreams }: ReadableCache,
  text: string,
  publicKeys: readonly string[],
  { cwd }: Context,
): Promise<Shown> {
  const { storeDir, keepSignatures } = config;
  const { hash, path } = parsePathArgument(text, storeDir, cwd);
  const info = await readNarInfo(reader, hash, storeDir);
  if (!info || (path !== null && info.path !== path)) {
    const instead = info ? `: it has ${quote(info.path)} instead` : '';
    throw new NicheError(
      'not-found',
      `cannot find ${quote(path ?? hash)} in the cache at ${quote(reader.url)}${instead}`,
    );
  }
  const signatures = checkSignatures(info, {
    publicKeys,
    upstreams,
    keepSignatures,
    storeDir,
  });
  return [{ ...info, signatures }, linesOf(info, signatures)];
}

function linesOf(info: NarInfo, signatures: readonly CheckedSignature[]): Line[] {
  const { fileHash, fileSize } = info;
  return [
    ['path', info.path],
    ['deriver', info.deriver ?? 'unknown'],
    ...(info.ca === null ? [] : [['content address', info.ca] as const]),
    ['NAR', formatExactBytes(info.narSize), info.narHash],
    [
      'file',
      `${fileSize === null ? 'size unknown' : formatExactBytes(fileSize)}, ${info.compression}`,
      ...(fileHash === null ? [] : [fileHash]),
      info.url,
    ],
    ['references', ...info.references],
    [
      'signatures',
      ...signatures.map(
        ({ keyName, verdict }) => `${keyName || 'malformed'}: ${verdictWords[verdict]}`,
      ),
    ],
    ...info.extra.map(([name, value]) => [name, value] as const),
  ];
}

function formatLines(lines: readonly Line[]): string {
  const width = Math.max(...lines.map(([name]) => name.length)) + 2;
  return lines
    .map(([name, ...values]) => {
      const [first = 'none', ...more] = values;
      const below = more.map((value) => `${' '.repeat(width)}${value}\n`).join('');
      return `${`${name}:`.padEnd(width)}${first}\n${below}`;
    })
    .join('');
}
