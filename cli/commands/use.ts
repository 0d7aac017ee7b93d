import path from 'node:path';

import { Option } from 'commander';
import type { Command } from 'commander';

import { readConfig } from '../../core/cache/config.ts';
import type { CacheConfig } from '../../core/cache/config.ts';
import { openReader } from '../../core/cache/open.ts';
import { NicheError, quote } from '../../core/errors.ts';
import { deniedAsMissing } from '../../core/cache/denied-as-missing.ts';
import { openHttpReader } from '../../core/storage/http/reader.ts';
import {
  assertKeysPinned,
  isLocalUrl,
  isRemotePlainHttp,
  parseCacheAddress,
} from '../cache/address.ts';
import type { CacheAddress } from '../cache/address.ts';
import type { Context } from '../process/context.ts';
import { ownAccess } from '../cache/open.ts';
import { checkAcceptance, isConfiguration } from '../use/accept.ts';
import { commandsOf, describeAdvice } from '../use/advice.ts';
import type { Advice, Placement } from '../use/advice.ts';
import { entryFor } from '../use/choose-keys.ts';
import { userConfPath } from '../use/conf-file.ts';
import { isNixConfigValue } from '../nix/nix-config.ts';
import { defaultNetrcFile, readLogin, removeNetrc, writeNetrc } from '../use/netrc.ts';
import type { Login, NetrcWritten } from '../use/netrc.ts';
import { confLines } from '../use/nix-conf.ts';
import type { CacheEntry } from '../use/nix-conf.ts';
import { hasUrl, openReaderNix } from '../use/reader-nix.ts';
import type { ReaderNix } from '../use/reader-nix.ts';
import { placeOf, snippetFor, snippetKinds } from '../use/snippets.ts';
import type { SnippetKind } from '../use/snippets.ts';
import { describeSystem, permitCommands } from '../use/system-conf.ts';
import { isWritten, removeUse, writeUse } from '../use/write.ts';
import type { Written } from '../use/write.ts';
import { addExamples } from '../ui/help.ts';
import { addCacheOption, addPublicKey } from '../ui/options.ts';

interface UseFlags {
  readonly cacheUrl?: string;
  readonly publicKey: readonly string[];
  readonly for?: SnippetKind;
  readonly write: boolean;
  readonly remove: boolean;
  readonly path?: string;
  readonly netrc?: string;
  readonly login?: string;
  readonly passwordFile?: string;
  readonly json: boolean;
}

export function addUse(program: Command, context: Context): void {
  const command = program
    .command('use')
    .summary('let Nix on this machine read a cache')
    .description(
      'Shows how to make Nix substitute from a cache, or writes it to nix.conf, and checks that Nix ' +
        'will accept the paths of the cache.',
    )
    .argument('[url]', 'cache URL, optionally with #PUBLIC_KEY (default: -u)')
    .optionsGroup('Cache:');
  addCacheOption(command)
    .addOption(
      new Option(
        '--public-key <key>',
        'pin the cache’s public key (required over plain HTTP); repeatable',
      )
        .argParser(addPublicKey)
        .default([]),
    )
    .option('--path <store path>', 'check with this path of the cache')
    .optionsGroup('Configuration:')
    .option('--write', 'add the cache to your nix.conf', false)
    .addOption(
      new Option('--remove', 'remove the cache from your nix.conf')
        .default(false)
        .conflicts('write'),
    )
    .addOption(
      new Option('--for <where>', 'print a snippet for nixos, flake, github or gitlab instead')
        .choices(snippetKinds)
        .conflicts(['write', 'remove', 'path']),
    )
    .optionsGroup('Login:')
    .option('--netrc <file>', 'write the login to this netrc file; with --remove, delete it there')
    .option('--login <name>', 'login name (default: $NICHE_NETRC_LOGIN)')
    .option('--password-file <file>', 'file with the password (default: $NICHE_NETRC_PASSWORD)')
    .optionsGroup('Other:')
    .option('--json', 'print the result as JSON', false)
    .action(async (url: string | undefined, flags: UseFlags) => {
      await use(url, flags, context);
    });
  addExamples(
    command,
    'niche use https://acme.example',
    "niche use 'http://build-box:5000#acme-1:…' --write",
    'niche use https://acme.example --for nixos',
    'niche use https://acme.example --netrc ~/.netrc --login ci --password-file token --write',
  );
}

async function use(url: string | undefined, flags: UseFlags, context: Context): Promise<void> {
  const named = parseCacheAddress(url ?? flags.cacheUrl, flags.publicKey, context);
  if (flags.remove) {
    await remove(named, flags, context);
    return;
  }
  // First of all: what Nix was refused once it takes for missing, for an hour.
  const netrc =
    flags.netrc === undefined ? null : await useNetrc(named.url, flags.netrc, flags, context);
  const reader = netrc
    ? deniedAsMissing(openHttpReader(named.url, { login: netrc.login }))
    : openReader(named.url, ownAccess(context));
  const config = await readConfig(reader);
  const entry = { ...entryFor(named, config), netrcFile: netrc?.confFile };
  const warnings = warningsFor(named, entry, config, flags.for);
  for (const warning of warnings) context.stderr.write(`niche: warning: ${warning}\n`);
  if (flags.for !== undefined) {
    printSnippet(flags.for, entry, warnings, flags.json, context);
    return;
  }

  const nix = await openReaderNix(context);
  const system = await describeSystem(context.env, process.platform);
  const placement = placementOf(entry, nix);
  const before = { entry, placement, nix, system, userFile: userConfPath(context.env) };
  if (flags.write) assertKeysPinned(named, config);
  const written = flags.write ? await write(before, context) : null;
  // Nix itself says what came of it.
  const now = written ? await openReaderNix(context) : nix;
  const verdict = await checkAcceptance({ reader, config, entry, nix: now, storePath: flags.path });
  const advice: Advice = { ...before, nix: now, written, netrc: netrc?.written ?? null, verdict };
  context.stdout.write(
    flags.json ? `${JSON.stringify(asJson(advice, warnings))}\n` : describeAdvice(advice),
  );
  const isWrong = verdict.obstacles.some((obstacle) => flags.write || !isConfiguration(obstacle));
  if (isWrong) context.setExitStatus(1);
}

interface UsedNetrc {
  readonly login: Login;
  readonly written: NetrcWritten;
  /** What nix.conf has to say; nothing where Nix looks there by itself. */
  readonly confFile: string | undefined;
}

async function useNetrc(
  url: string,
  netrc: string,
  flags: UseFlags,
  { env, cwd }: Context,
): Promise<UsedNetrc> {
  const file = path.resolve(cwd, netrc);
  if (!isNixConfigValue(file)) {
    throw new NicheError('usage', `nix.conf cannot name ${quote(file)}: expected no white space`);
  }
  if (isRemotePlainHttp(url)) {
    throw new NicheError('usage', `a password would go to ${url} in the clear: expected https://…`);
  }
  const login = await readLogin(flags, env);
  const written = await writeNetrc(file, url, login);
  return { login, written, confFile: file === defaultNetrcFile ? undefined : file };
}

function placementOf(entry: CacheEntry, nix: ReaderNix | null): Placement {
  if (!nix) return 'unknown';
  const hasKeys = entry.publicKeys.every((key) => nix.publicKeys.includes(key));
  if (hasKeys && hasUrl(nix.substituters, entry.substituter)) return 'in-use';
  const isPermitted = hasKeys && hasUrl(nix.permitted, entry.substituter);
  return nix.trusted || isPermitted ? 'user' : 'system';
}

async function write(
  advice: Omit<Advice, 'written' | 'netrc' | 'verdict'>,
  { env }: Context,
): Promise<Written | null> {
  const { entry, placement, nix, system } = advice;
  if (placement === 'system') {
    const commands = commandsOf({ ...advice, written: null, netrc: null, verdict: noVerdict });
    throw new NicheError(
      'usage',
      'Nix would not take the cache from your nix.conf: you are not among its trusted-users',
      {
        hint:
          commands.length > 0
            ? `an administrator can add it for everyone:\n  ${commands.join('\n  ')}`
            : `${system.path} is generated; put this into your system's configuration:\n\n${snippetFor('nixos', entry)}`,
      },
    );
  }
  // Configured elsewhere, it needs no second entry; what niche wrote itself is kept current.
  const isComplete = placement === 'in-use' && entry.netrcFile === undefined;
  if (isComplete && !(await isWritten(env, entry.name))) return null;
  // A daemon warns of keys from users whom it does not trust.
  const publicKeys = nix === null || nix.trusted ? entry.publicKeys : [];
  return writeUse(env, { ...entry, publicKeys });
}

const noVerdict = { accepted: null, path: null, obstacles: [] };

async function remove(named: CacheAddress, flags: UseFlags, context: Context): Promise<void> {
  const netrc =
    flags.netrc === undefined
      ? null
      : await removeNetrc(path.resolve(context.cwd, flags.netrc), named.url);
  const byUrl = await removeUse(context.env, ({ substituter }) => substituter === named.url);
  // A storage's block has the URL under which it is read, which the cache knows.
  const removed =
    byUrl ??
    (/^(?:https?|file):/i.test(named.url)
      ? null
      : await removeUse(context.env, await isBlockOf(named.url, context)));
  const file = removed?.file ?? userConfPath(context.env);
  if (flags.json) {
    const change = removed ? 'removed' : 'unchanged';
    context.stdout.write(`${JSON.stringify({ url: named.url, file, change, netrc })}\n`);
    return;
  }
  if (netrc) context.stdout.write(`removed its line from ${netrc.file}\n`);
  context.stdout.write(
    removed
      ? `removed ${named.url} from ${removed.file}; the rest is as it was\n`
      : `niche has not written ${named.url} into ${file ?? 'a nix.conf'}: there is nothing to remove\n`,
  );
}

async function isBlockOf(
  url: string,
  context: Context,
): Promise<(block: { name: string }) => boolean> {
  const config = await readConfig(openReader(url, ownAccess(context)));
  return ({ name }) => name === config.name;
}

function warningsFor(
  { url, pinnedKeys }: CacheAddress,
  entry: CacheEntry,
  config: CacheConfig,
  place: SnippetKind | undefined,
): string[] {
  const warnings: string[] = [];
  if (isRemotePlainHttp(url) && pinnedKeys.length === 0) {
    warnings.push(
      'keys that came over plain HTTP can be trusted only if compared: ask whoever runs the cache for its key, and give it with --public-key',
    );
  }
  const left = config.publicKeys.filter((key) => !entry.publicKeys.includes(key));
  if (left.length > 0) {
    warnings.push(
      `the cache also signs with ${left.join(' and ')}, left out as only the given key is sure; Nix will refuse paths that have no other signature`,
    );
  }
  if ((place === 'github' || place === 'gitlab') && isLocalUrl(entry.substituter)) {
    warnings.push(`only this machine can read ${entry.substituter}`);
  }
  return warnings;
}

function printSnippet(
  kind: SnippetKind,
  entry: CacheEntry,
  warnings: readonly string[],
  json: boolean,
  context: Context,
): void {
  const snippet = snippetFor(kind, entry);
  if (json) {
    const { name, substituter: url, publicKeys } = entry;
    const answer = { name, url, publicKeys, for: kind, snippet, warnings };
    context.stdout.write(`${JSON.stringify(answer)}\n`);
    return;
  }
  context.stderr.write(`niche: for ${placeOf(kind)}:\n`);
  context.stdout.write(snippet);
}

function asJson(advice: Advice, warnings: readonly string[]): object {
  const { entry, placement, nix, userFile, system, written, verdict } = advice;
  const commands = commandsOf(advice);
  return {
    name: entry.name,
    url: entry.substituter,
    publicKeys: entry.publicKeys,
    lines: confLines(entry),
    nix: nix && { version: nix.version, storeDir: nix.storeDir, trusted: nix.trusted },
    placement,
    file: placement === 'system' ? system.path : userFile,
    commands,
    permitCommands: commands.length > 0 ? permitCommands(system, entry) : [],
    written,
    netrc: advice.netrc,
    accepted: verdict.accepted,
    path: verdict.path,
    obstacles: verdict.obstacles,
    warnings,
  };
}
