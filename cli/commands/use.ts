import path from 'node:path';

import { Option } from 'commander';
import type { Command } from 'commander';

import { readConfig } from '../../core/cache/config.ts';
import type { CacheConfig } from '../../core/cache/config.ts';
import { openReader } from '../../core/cache/open.ts';
import { NicheError, quote } from '../../core/errors.ts';
import { deniedAsMissing } from '../../core/cache/denied-as-missing.ts';
import { hasStore, isSameStore } from '../../core/nix/store-url.ts';
import { openHttpReader } from '../../core/storage/http/reader.ts';
import { isRemotePlainHttp } from '../../core/util/loopback.ts';
import type { Login } from '../../core/util/netrc.ts';
import { assertKeysPinned, isLocalUrl, parseCacheAddress } from '../cache/address.ts';
import type { CacheAddress } from '../cache/address.ts';
import { followToStore } from '../cache/path-argument.ts';
import type { Context } from '../process/context.ts';
import { ownAccess } from '../cache/open.ts';
import { checkAcceptance, isMissingConfiguration } from '../use/accept.ts';
import { commandsOf, describeAdvice } from '../use/advice.ts';
import type { Advice, Placement } from '../use/advice.ts';
import { entryFor } from '../use/choose-keys.ts';
import { userConfPath } from '../use/conf-file.ts';
import { isNixConfigValue } from '../nix/nix-config.ts';
import { defaultNetrcFile } from '../nix/netrc-file.ts';
import { readLogin, removeNetrc, writeNetrc } from '../use/netrc.ts';
import type { NetrcWritten } from '../use/netrc.ts';
import { confLines } from '../use/nix-conf.ts';
import type { Block, CacheEntry } from '../use/nix-conf.ts';
import { openReaderNix } from '../use/reader-nix.ts';
import type { ReaderNix } from '../use/reader-nix.ts';
import { targetOf, snippetFor, snippetKinds } from '../use/snippets.ts';
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
    .option('--path <store path>', 'check with this path of the cache, or a link to it')
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
  const address = parseCacheAddress(url ?? flags.cacheUrl, flags.publicKey, context);
  if (flags.remove) {
    await remove(address, flags, context);
    return;
  }
  // Before anything else: after a denied request, Nix caches for an hour that the path is missing.
  const netrc =
    flags.netrc === undefined ? null : await useNetrc(address.url, flags.netrc, flags, context);
  const reader = netrc
    ? deniedAsMissing(openHttpReader(address.url, { login: netrc.login }))
    : openReader(address.url, ownAccess(context));
  const config = await readConfig(reader);
  const entry = { ...entryFor(address, config), netrcFile: netrc?.confFile };
  const warnings = warningsFor(address, entry, config, flags.for);
  for (const warning of warnings) context.stderr.write(`niche: warning: ${warning}\n`);
  if (flags.for !== undefined) {
    printSnippet(flags.for, entry, warnings, flags.json, context);
    return;
  }

  const nix = await openReaderNix(context);
  const system = await describeSystem(context.env, process.platform);
  const placement = placementOf(entry, nix);
  const before = { entry, placement, nix, system, userFile: userConfPath(context.env) };
  if (flags.write) assertKeysPinned(address, config);
  const written = flags.write ? await write(before, context) : null;
  // Reads the settings again, to check what Nix makes of the new nix.conf.
  const now = written ? await openReaderNix(context) : nix;
  const storePath =
    flags.path === undefined
      ? undefined
      : (followToStore(flags.path, config.storeDir, context.cwd) ?? flags.path);
  const verdict = await checkAcceptance({ reader, config, entry, nix: now, storePath });
  const advice: Advice = { ...before, nix: now, written, netrc: netrc?.written ?? null, verdict };
  context.stdout.write(
    flags.json ? `${JSON.stringify(asJson(advice, warnings))}\n` : describeAdvice(advice),
  );
  const isWrong = verdict.obstacles.some(
    (obstacle) => flags.write || !isMissingConfiguration(obstacle),
  );
  if (isWrong) context.setExitStatus(1);
}

interface UsedNetrc {
  readonly login: Login;
  readonly written: NetrcWritten;
  /** The value of `netrc-file` in nix.conf; undefined for Nix's default file. */
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
    throw new NicheError(
      'usage',
      `nix.conf cannot contain ${quote(file)}: expected no white space and no "#"`,
    );
  }
  if (isRemotePlainHttp(url)) {
    throw new NicheError(
      'usage',
      `cannot send a password over plain HTTP: expected https://…, got ${quote(url)}`,
    );
  }
  const login = await readLogin(flags, env);
  const written = await writeNetrc(file, url, login);
  return { login, written, confFile: file === defaultNetrcFile ? undefined : file };
}

function placementOf(entry: CacheEntry, nix: ReaderNix | null): Placement {
  if (!nix) return 'unknown';
  const hasKeys = entry.publicKeys.every((key) => nix.publicKeys.includes(key));
  if (hasKeys && hasStore(nix.substituters, entry.substituter)) return 'in-use';
  const isPermitted = hasKeys && hasStore(nix.permitted, entry.substituter);
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
      'cannot add the cache to your nix.conf: you are not a trusted user of Nix',
      {
        hint:
          commands.length > 0
            ? `as an administrator, run:\n  ${commands.join('\n  ')}`
            : `add this to the configuration of the system, which generates ${system.path}:\n\n${snippetFor('nixos', entry)}`,
      },
    );
  }
  // A cache that is configured elsewhere needs no block, but an existing block is kept up to date.
  const isComplete = placement === 'in-use' && entry.netrcFile === undefined;
  if (isComplete && !(await isWritten(env, entry.name))) return null;
  // The daemon warns about keys from untrusted users.
  const publicKeys = nix === null || nix.trusted ? entry.publicKeys : [];
  return writeUse(env, { ...entry, publicKeys });
}

const noVerdict = { accepted: null, path: null, obstacles: [] };

async function remove(address: CacheAddress, flags: UseFlags, context: Context): Promise<void> {
  const netrc =
    flags.netrc === undefined
      ? null
      : await removeNetrc(path.resolve(context.cwd, flags.netrc), address.url);
  const byUrl = await removeUse(context.env, isBlockAt(address.url));
  // The block of a storage URL has the public URL instead, which only the cache knows.
  const removed =
    byUrl ??
    (/^(?:https?|file):/i.test(address.url)
      ? null
      : await removeUse(context.env, await isBlockOf(address.url, context)));
  const file = removed?.file ?? userConfPath(context.env);
  if (flags.json) {
    const change = removed ? 'removed' : 'unchanged';
    context.stdout.write(`${JSON.stringify({ url: address.url, file, change, netrc })}\n`);
    return;
  }
  if (netrc) context.stdout.write(`removed the login from ${netrc.file}\n`);
  context.stdout.write(
    removed
      ? `removed ${address.url} from ${removed.file}\n`
      : `nothing to remove: niche did not add ${address.url} to ${file ?? 'a nix.conf'}\n`,
  );
}

function isBlockAt(url: string): (block: Block) => boolean {
  return ({ substituter }) => substituter !== null && isSameStore(substituter, url);
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
  target: SnippetKind | undefined,
): string[] {
  const warnings: string[] = [];
  if (isRemotePlainHttp(url) && pinnedKeys.length === 0) {
    warnings.push(
      'cannot trust public keys sent over plain HTTP: get the key from the cache’s administrator and pass it with --public-key',
    );
  }
  const left = config.publicKeys.filter((key) => !entry.publicKeys.includes(key));
  if (left.length > 0) {
    warnings.push(
      `the cache’s key ${left.map(quote).join(' and ')} is not pinned: Nix will refuse paths with no other signature`,
    );
  }
  if ((target === 'github' || target === 'gitlab') && isLocalUrl(entry.substituter)) {
    warnings.push(`only this machine can read ${quote(entry.substituter)}`);
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
    const result = { name, url, publicKeys, for: kind, snippet, warnings };
    context.stdout.write(`${JSON.stringify(result)}\n`);
    return;
  }
  context.stderr.write(`niche: paste this into ${targetOf(kind)}:\n`);
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
