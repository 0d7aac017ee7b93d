import { mkdir } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

import { InvalidArgumentError } from 'commander';
import type { Command } from 'commander';

import { NicheError, messageOf } from '../../core/errors.ts';
import { configVersion, parseConfig } from '../../core/cache/config.ts';
import type { CacheConfig } from '../../core/cache/config.ts';
import { assertNoCache, initCache } from '../../core/cache/init.ts';
import {
  formatPublicKey,
  formatSecretKey,
  generateSecretKey,
  parsePublicKey,
  parseSecretKey,
} from '../../core/nix/keys.ts';
import { defaultStoreDir } from '../../core/nix/store-path.ts';
import { openBucket } from '../../core/storage/open.ts';
import { normalizeCacheUrl } from '../cache-url.ts';
import type { Context } from '../context.ts';
import { openNix } from '../nix/nix.ts';
import { defaultSecretKeyFile, readSecretKeyFile, writeSecretKeyFile } from '../secret-keys.ts';

interface InitFlags {
  readonly name: string;
  readonly keyName?: string;
  readonly secretKeyFile?: string;
  readonly upstream: { url: string; publicKey: string }[] | false;
  readonly compression: 'zstd' | 'none';
  readonly level: string;
  readonly storeDir?: string;
  readonly json: boolean;
}

const nixosCache = {
  url: 'https://cache.nixos.org',
  publicKey: 'cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=',
};

export function addInit(program: Command, context: Context): void {
  program
    .command('init')
    .summary('make a cache')
    .description(
      'Makes a cache in a bucket: nix-cache-info, niche.json and a signing key. A cache that is there already is left as it is.',
    )
    .argument('<url>', 'where the cache is to be: file:///some/dir')
    .requiredOption('--name <name>', 'the cache’s name, for people and for its key')
    .option('--key-name <name>', 'the signing key’s name (default: <name>-1)')
    .option(
      '--secret-key-file <file>',
      'the signing key, made if it is missing (default: in the user’s configuration)',
    )
    .option(
      '--upstream <url=key>',
      'a cache whose paths need not be uploaded, and its public key; repeatable (default: cache.nixos.org if this Nix uses it)',
      addUpstream,
    )
    .option('--no-upstream', 'no upstream')
    .option('--compression <kind>', 'how NARs are stored: zstd or none', parseCompression, 'zstd')
    .option('--level <level>', 'zstd’s level, 1 to 19', '3')
    .option(
      '--store-dir <dir>',
      'the store that the cache is for (default: this Nix’s, else /nix/store)',
    )
    .option('--json', 'print the result as JSON', false)
    .addHelpText(
      'after',
      `
Examples:
  niche init file:///srv/cache --name acme
  niche init file:///srv/pr --name acme-pr --upstream file:///srv/cache=acme-1:…`,
    )
    .action(async (url: string, flags: InitFlags) => {
      await init(url, flags, context);
    });
}

async function init(url: string, flags: InitFlags, context: Context): Promise<void> {
  const storage = normalizeCacheUrl(url, context.cwd);
  const keyName = flags.keyName ?? `${flags.name}-1`;
  const file = flags.secretKeyFile ?? defaultSecretKeyFile(context.env, keyName);
  const existing = await readSecretKeyFile(file);
  const secretKey = existing ?? formatSecretKey(generateSecretKey(keyName));
  const publicKey = formatPublicKey(parseSecretKey(secretKey).publicKey);
  const nix = await localNix(context);
  const config: CacheConfig = parseConfig(
    JSON.stringify({
      version: configVersion,
      name: flags.name,
      storeDir: flags.storeDir ?? nix?.storeDir ?? defaultStoreDir,
      publicKeys: [publicKey],
      substituter: storage,
      storage,
      private: storage,
      compression: { kind: flags.compression, level: Number(flags.level) },
      upstreams: upstreamsOf(flags, nix?.substituters ?? []),
    }),
    'the new cache’s configuration',
  );
  const bucket = openBucket(storage);
  await makeDirectory(storage);
  // Before the key is made: one that belongs to no cache would be taken for one that matters.
  await assertNoCache(bucket);
  // Then the key: a cache without its key could never be published to.
  if (existing === null) await writeSecretKeyFile(file, secretKey);
  await initCache(bucket, config);

  if (flags.json) {
    context.stdout.write(`${JSON.stringify({ url: storage, publicKey, secretKeyFile: file })}\n`);
    return;
  }
  context.stdout.write(`made the cache ${config.name} at ${storage}
public key: ${publicKey}
secret key: ${file}${existing === null ? ' (new: keep a copy, it cannot be made again)' : ''}
upstreams:  ${config.upstreams.map((upstream) => upstream.url).join(', ') || 'none'}

Next, for whoever reads the cache:
  niche use ${storage}
Next, for whoever builds (CI):
  niche build -u ${storage} -- .#default
`);
}

/** What this machine's nix says, where there is one. */
async function localNix(
  context: Context,
): Promise<{ storeDir: string; substituters: readonly string[] } | null> {
  try {
    const { storeDir, settings } = await openNix({ env: context.env, cwd: context.cwd });
    return { storeDir, substituters: settings.substituters };
  } catch (error) {
    if (error instanceof NicheError) return null;
    throw error;
  }
}

function upstreamsOf(flags: InitFlags, substituters: readonly string[]): CacheConfig['upstreams'] {
  if (flags.upstream === false) return [];
  // commander hands over `true` where only the negated option gives a default.
  if (Array.isArray(flags.upstream)) return flags.upstream;
  const usesNixosCache = substituters.some((url) => url.replace(/\/+$/, '') === nixosCache.url);
  return usesNixosCache ? [nixosCache] : [];
}

async function makeDirectory(storage: string): Promise<void> {
  const directory = fileURLToPath(storage);
  try {
    await mkdir(directory, { recursive: true });
  } catch (cause) {
    throw new NicheError(
      'storage-denied',
      `cannot make the directory ${directory}: ${messageOf(cause)}`,
      { cause },
    );
  }
}

function addUpstream(text: string, before: InitFlags['upstream'] | true): InitFlags['upstream'] {
  const parts = /^(.*?)=([^=:]+:.+)$/.exec(text);
  const [, url = '', publicKey = ''] = parts ?? [];
  try {
    if (!URL.canParse(url)) throw new NicheError('invalid-url', 'expected URL=KEY');
    parsePublicKey(publicKey);
  } catch (error) {
    throw new InvalidArgumentError(messageOf(error));
  }
  return [...(Array.isArray(before) ? before : []), { url, publicKey }];
}

function parseCompression(text: string): 'zstd' | 'none' {
  if (text === 'zstd' || text === 'none') return text;
  throw new InvalidArgumentError('expected zstd or none');
}
