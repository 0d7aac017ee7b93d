import type { Command } from 'commander';

import { blockPath, unblockPath } from '../../core/cache/withdraw/block.ts';
import type { BlockResult } from '../../core/cache/withdraw/block.ts';
import { assertNoUrls, parseCacheAddress } from '../cache/address.ts';
import type { Context } from '../process/context.ts';
import { openCacheAt } from '../cache/open.ts';
import { parsePathArgument } from '../cache/path-argument.ts';
import { openLocalRecord } from '../upload/local-record.ts';
import { addExamples } from '../ui/help.ts';
import { addCacheOption } from '../ui/options.ts';

interface BlockFlags {
  readonly cacheUrl?: string;
  readonly reason?: string;
  readonly undo: boolean;
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
          'to both roots.',
      )
      .argument('<path...>', 'store paths or their hashes'),
  )
    .option('--reason <text>', 'record why')
    .option('--undo', 'allow the paths to be uploaded and published again', false)
    .option('--json', 'print the results as JSON Lines', false)
    .action(async (paths: string[], flags: BlockFlags) => {
      await block(paths, flags, context);
    });
  addExamples(
    command,
    "niche block -u /srv/cache /nix/store/…-hello-2.12 --reason 'built on a stolen laptop'",
    'niche block -u /srv/cache --undo /nix/store/…-hello-2.12',
    'niche verify -u /srv/cache     # finds paths that still refer to it',
  );
}

async function block(texts: readonly string[], flags: BlockFlags, context: Context): Promise<void> {
  assertNoUrls(texts, 'block', 'a store path');
  const cache = await openCacheAt(parseCacheAddress(flags.cacheUrl, [], context), context);
  // Parses all paths before it withdraws any, so that a typo changes nothing.
  const paths = texts.map((text) => parsePathArgument(text, cache.config.storeDir));
  const local = await openLocalRecord(cache, context.env);
  const at = new Date().toISOString();
  try {
    for (const { hash, path } of paths) {
      const name = path ?? hash;
      const [record, line] = flags.undo
        ? unblockedResult(name, await unblockPath(cache.private, hash))
        : blockedResult(name, await blockPath(cache, hash, { at, why: flags.reason ?? '' }));
      // Else the next upload of this machine would report the path as already there.
      local.known.forgetHash(hash);
      context.stdout.write(`${flags.json ? JSON.stringify(record) : line}\n`);
    }
  } finally {
    local.close();
  }
}

/** The result for one path, as JSON and as text. */
type Result = [record: object, line: string];

function blockedResult(name: string, result: BlockResult): Result {
  const what = result.wasPublished
    ? 'withdrawn'
    : result.wasBlocked
      ? 'already withdrawn'
      : 'withdrawn; it was not published';
  return [{ path: name, ...result }, `${name}: ${what}`];
}

function unblockedResult(name: string, wasBlocked: boolean): Result {
  const what = wasBlocked ? 'can be published again' : 'was not withdrawn';
  return [{ path: name, wasBlocked }, `${name}: ${what}`];
}
