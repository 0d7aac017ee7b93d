import type { Command } from 'commander';

import { blockedNarKey } from '../../core/cache/layout.ts';
import type { OpenCache } from '../../core/cache/open.ts';
import { blockPath, unblockPath } from '../../core/cache/withdraw/block.ts';
import type { BlockResult } from '../../core/cache/withdraw/block.ts';
import { unblockContents } from '../../core/cache/withdraw/purge.ts';
import { NicheError } from '../../core/errors.ts';
import { storeHash } from '../../core/nix/store-path.ts';
import { findContents, parseBlockArgument } from '../block/arguments.ts';
import type { BlockArgument } from '../block/arguments.ts';
import { listBlocks } from '../block/list.ts';
import { runPurge } from '../block/purge.ts';
import { assertNoUrls, parseCacheAddress } from '../cache/address.ts';
import { openAsAdministrator } from '../cache/open.ts';
import type { Context } from '../process/context.ts';
import { addExamples } from '../ui/help.ts';
import { addCacheOption, parseDuration } from '../ui/options.ts';
import { openLocalRecord } from '../upload/local-record.ts';

interface BlockFlags {
  readonly cacheUrl?: string;
  readonly reason?: string;
  readonly purge: boolean;
  readonly wait?: number;
  readonly undo: boolean;
  readonly list: boolean;
  readonly json: boolean;
}

export function addBlock(program: Command, context: Context): void {
  const command = addCacheOption(
    program
      .command('block')
      .summary('withdraw paths from a cache')
      .description(
        'Withdraws paths: they can no longer be read or published, and paths that refer to them are ' +
          'not published either. Machines that have a withdrawn path keep it. Other machines may take ' +
          'it for published: readers for up to 30 days, uploaders for a day. Requires write access ' +
          'to the public and the private root. With --purge, deletes the contents of the paths for ' +
          'good, under every name, and refuses them from now on: for a leaked secret.',
      )
      .argument('[path...]', 'store paths, links to them, or hashes; with --purge also NAR hashes'),
  )
    .option('--reason <text>', 'record why; shown by --list')
    .option('--purge', 'delete the contents too, with all versions; takes over half an hour', false)
    .option(
      '--wait <duration>',
      'with --purge: time limit of the slowest publisher (default: 35m)',
      parseDuration,
    )
    .option('--undo', 'allow the paths or NAR hashes to be published again', false)
    .option('--list', 'list withdrawn paths and refused contents, with the reasons', false)
    .option('--json', 'print the results as JSON Lines', false)
    .action(async (paths: string[], flags: BlockFlags) => {
      await block(paths, flags, context);
    });
  addExamples(
    command,
    "niche block -u /srv/cache /nix/store/…-hello-2.12 --reason 'built on a stolen laptop'",
    'niche block -u /srv/cache --undo /nix/store/…-hello-2.12',
    'niche block -u /srv/cache --list',
    "niche block -u /srv/cache --purge /nix/store/…-config --reason 'contains a password'",
    'niche verify -u /srv/cache     # finds paths that still refer to it',
  );
}

async function block(texts: readonly string[], flags: BlockFlags, context: Context): Promise<void> {
  assertUsable(texts, flags);
  const cache = await openAsAdministrator(parseCacheAddress(flags.cacheUrl, [], context), context);
  if (flags.list) {
    await listBlocks(cache, flags, context);
    return;
  }
  // Parses all paths before it withdraws any, so that a typo changes nothing.
  const targets = texts.map((text) => parseBlockArgument(text, cache.config.storeDir, context.cwd));
  const reason = flags.reason ?? '';
  const local = await openLocalRecord(cache, context.env);
  try {
    if (flags.purge) {
      const request = { targets, reason, waitMs: flags.wait ?? null, json: flags.json };
      for (const path of await runPurge(cache, request, context)) {
        local.known.forgetHash(storeHash(path));
      }
      return;
    }
    for (const target of targets) {
      const [record, line] = flags.undo
        ? await undo(cache, target)
        : await withdraw(cache, target, reason);
      // Else the next upload of this machine would report the path as already there.
      if (target.kind === 'path') local.known.forgetHash(target.hash);
      context.stdout.write(`${flags.json ? JSON.stringify(record) : line}\n`);
    }
  } finally {
    local.close();
  }
}

/** @throws NicheError `usage` for flags that exclude each other */
function assertUsable(texts: readonly string[], flags: BlockFlags): void {
  assertNoUrls(texts, 'block', 'a store path');
  if (texts.length === 0 && !flags.list) {
    throw new NicheError('usage', 'no paths given', { hint: 'run niche block --help' });
  }
  if (flags.list && (texts.length > 0 || flags.purge || flags.undo)) {
    throw new NicheError('usage', 'cannot list and change at once: pass --list alone');
  }
  if (flags.purge && flags.undo) {
    throw new NicheError('usage', 'cannot purge and undo at once: deleted contents are gone');
  }
  if (flags.wait !== undefined && !flags.purge) {
    throw new NicheError('usage', 'cannot use --wait without --purge: only a purge waits');
  }
}

/** The result for one path, as JSON and as text. */
type Result = [record: object, line: string];

async function withdraw(cache: OpenCache, target: BlockArgument, why: string): Promise<Result> {
  if (target.kind === 'contents') {
    throw new NicheError('usage', `cannot withdraw ${target.narHash}: it is not a store path`, {
      hint: 'pass --purge to refuse contents under every name',
    });
  }
  const { hash, path } = target;
  const known = await findContents(cache, hash);
  const record = { at: new Date().toISOString(), why, ...known };
  return blockedResult(path ?? hash, await blockPath(cache, hash, record));
}

async function undo(cache: OpenCache, target: BlockArgument): Promise<Result> {
  if (target.kind === 'contents') {
    return unblockedResult(target.narHash, await unblockContents(cache, target.narHash), null);
  }
  const { hash, path } = target;
  const { narHash = null } = await findContents(cache, hash);
  const wasBlocked = await unblockPath(cache.private, hash);
  const isRefused = narHash !== null && (await cache.private.head(blockedNarKey(narHash))) !== null;
  return unblockedResult(path ?? hash, wasBlocked, isRefused ? narHash : null);
}

function blockedResult(name: string, result: BlockResult): Result {
  const what = result.wasPublished
    ? 'withdrawn'
    : result.wasBlocked
      ? 'already withdrawn'
      : 'withdrawn; it was not published';
  return [{ path: name, ...result }, `${name}: ${what}`];
}

/** @param refused the contents of the path, if they are still refused */
function unblockedResult(name: string, wasBlocked: boolean, refused: string | null): Result {
  const what = wasBlocked ? 'can be published again' : 'was not withdrawn';
  if (refused === null) return [{ path: name, wasBlocked }, `${name}: ${what}`];
  const rest = `its contents are still refused: niche block --undo ${refused}`;
  return [{ path: name, wasBlocked, refused }, `${name}: ${what}, but ${rest}`];
}
