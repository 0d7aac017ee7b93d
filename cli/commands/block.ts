import type { Command } from 'commander';

import { blockPath, unblockPath } from '../../core/cache/blocklist.ts';
import { assertNoUrls, parseCacheAddress } from '../cache/address.ts';
import type { Context } from '../process/context.ts';
import { openCacheAt } from '../cache/open.ts';
import { parsePathArgument } from '../cache/path-argument.ts';
import { addCacheOption } from '../ui/options.ts';

interface BlockFlags {
  readonly cacheUrl?: string;
  readonly reason: string;
  readonly undo: boolean;
  readonly json: boolean;
}

export function addBlock(program: Command, context: Context): void {
  addCacheOption(
    program
      .command('block')
      .summary('withdraw paths from a cache')
      .description(
        'Withdraws paths: nobody can read them any more, nobody publishes them again, and what refers to them waits in vain. It takes an administrator’s access to both roots. Machines that have a path already keep it, and readers may believe for a while that it is there.',
      )
      .argument('<path...>', 'store paths or their hashes'),
  )
    .option('--reason <text>', 'why, for whoever asks later', '')
    .option(
      '--undo',
      'let them be published again, by whoever stages them again; a machine that saw one in the cache may take a day to do so',
      false,
    )
    .option('--json', 'print the result as JSON, one record a line', false)
    .addHelpText(
      'after',
      `
Examples:
  niche block -u file:///srv/cache /nix/store/…-hello-2.12 --reason 'built on a stolen laptop'
  niche block -u file:///srv/cache --undo /nix/store/…-hello-2.12
  niche verify -u file:///srv/cache     # what still refers to it`,
    )
    .action(async (paths: string[], flags: BlockFlags) => {
      await block(paths, flags, context);
    });
}

async function block(texts: readonly string[], flags: BlockFlags, context: Context): Promise<void> {
  assertNoUrls(texts, 'block', 'a store path');
  const cache = await openCacheAt(parseCacheAddress(flags.cacheUrl, [], context), context);
  // All are read before the first is withdrawn: a slip of the pen withdraws nothing.
  const paths = texts.map((text) => parsePathArgument(text, cache.config.storeDir));
  for (const { hash, path } of paths) {
    const name = path ?? hash;
    const [record, line] = flags.undo
      ? undone(name, await unblockPath(cache.private, hash))
      : done(name, await blockPath(cache, hash, flags.reason, new Date()));
    context.stdout.write(`${flags.json ? JSON.stringify(record) : line}\n`);
  }
}

type Said = [record: object, line: string];

function done(name: string, result: Awaited<ReturnType<typeof blockPath>>): Said {
  const what = result.wasPublished
    ? 'withdrawn'
    : result.wasBlocked
      ? 'withdrawn already'
      : 'withdrawn; it was not published';
  return [{ path: name, ...result }, `${name}: ${what}`];
}

function undone(name: string, wasBlocked: boolean): Said {
  const what = wasBlocked ? 'may be published again' : 'was not withdrawn';
  return [{ path: name, wasBlocked }, `${name}: ${what}`];
}
