import { readlinkSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';

import type { Command } from 'commander';

import { NicheError, isNicheError, quote } from '../../core/errors.ts';
import { nameCache } from '../cache-url.ts';
import type { PathInfos } from '../../core/nix/path-info.ts';
import { parseStorePath } from '../../core/nix/store-path.ts';
import type { Context } from '../context.ts';
import { listenForInterrupt } from '../process/interrupt.ts';
import { askText } from '../nix/ask.ts';
import { openNix } from '../nix/nix.ts';
import type { Nix } from '../nix/nix.ts';
import { pathInfosOf } from '../nix/path-infos.ts';
import { queryPathInfos } from '../nix/query.ts';
import { openNamedCache } from '../open-cache.ts';
import { finishUpload } from '../upload/finish.ts';
import { addUploadOptions, assertSameStore, openUpload } from '../upload/options.ts';
import { describeSetup, startProgress } from '../upload/setup.ts';
import type { UploadFlags } from '../upload/options.ts';
import { createUploadSession } from '../upload/session.ts';

interface PushFlags extends UploadFlags {
  readonly closure: boolean;
}

export function addPush(program: Command, context: Context): void {
  addUploadOptions(
    program
      .command('push')
      .summary('upload store paths that this machine has')
      .description(
        'Uploads store paths, or what installables were built to, with everything that they refer to. Without arguments the paths are read from stdin, one a line.',
      )
      .argument('[path...]', 'store paths, links to them, or installables')
      .option(
        '--no-closure',
        'only the paths themselves; they are published once what they refer to is',
      ),
  )
    .addHelpText(
      'after',
      `
Examples:
  niche push -u file:///srv/cache ./result
  niche push -u file:///srv/cache .#default
  nix-store -qR /run/current-system | niche push -u file:///srv/cache`,
    )
    .action(async (args: string[], flags: PushFlags) => {
      await push(args, flags, context);
    });
}

async function push(args: readonly string[], flags: PushFlags, context: Context): Promise<void> {
  const startedAt = Date.now();
  const { closure } = flags;
  const named = nameCache(flags.cacheUrl, flags.publicKey ?? [], context);
  const openingCache = openNamedCache(named, context);
  const openingNix = openNix({ env: context.env, cwd: context.cwd });
  // Nix is asked while the cache is opened, which takes some round trips.
  const resolving = openingNix.then((nix) => resolvePaths(nix, args));
  const asking = resolving.then(async (paths) =>
    queryPathInfos(await openingNix, paths, { recursive: closure }),
  );
  for (const ahead of [resolving, asking]) ahead.catch(() => undefined);
  const [cache, nix] = await Promise.all([openingCache, openingNix]);
  assertSameStore(cache, nix);
  const upload = await openUpload(cache, flags, context);
  const progress = startProgress(context, true);
  describeSetup(upload, nix, context, progress);
  await resolving;
  const interrupt = listenForInterrupt(true);
  const { signal } = interrupt;
  const session = createUploadSession({
    ...upload,
    nix,
    closure,
    mustExist: true,
    progress,
    signal,
  });
  const taking = session.take(
    args.length > 0
      ? whenKnown(asking)
      : pathInfosOf(nix, readLines(context, nix), { recursive: closure, signal }),
  );
  const options = { flags, progress, interrupt, startedAt, context };
  context.setExitStatus(await finishUpload(session, taking, options));
  interrupt.close();
}

/** Store paths as they are, links to where they lead; for anything else nix is asked what it is. */
async function resolvePaths(nix: Nix, args: readonly string[]): Promise<string[]> {
  const followed = args.map((arg) => followToStore(nix, arg));
  const paths = followed.filter((path) => path !== null);
  const installables = args.filter((_, at) => followed[at] === null);
  if (installables.length === 0) return paths;
  const printed = await askText(nix.ask, 'nix', ['path-info', ...installables]);
  return [...paths, ...printed.split('\n').filter((line) => line !== '')];
}

/** No chain of links that leads anywhere is longer on Linux. */
const maxLinks = 40;

/**
 * The store path that `text` is, or that links at `text` lead to. Link by link, since in a chroot
 * store the last one leads to a name that only Nix knows how to find.
 */
function followToStore(nix: Nix, text: string): string | null {
  let file = text;
  for (let links = 0; links <= maxLinks; links++) {
    try {
      return parseStorePath(file, nix.storeDir).path;
    } catch (error) {
      if (!isNicheError(error)) throw error;
    }
    try {
      file = path.resolve(nix.cwd, path.dirname(file), readlinkSync(path.resolve(nix.cwd, file)));
    } catch {
      return null;
    }
  }
  return null;
}

async function* readLines(context: Context, nix: Nix): AsyncIterable<string> {
  for await (const line of createInterface({ input: context.stdin })) {
    const text = line.trim();
    if (text === '') continue;
    try {
      yield parseStorePath(text, nix.storeDir).path;
    } catch (cause) {
      throw new NicheError('usage', `stdin has a line that is not a store path: ${quote(text)}`, {
        cause,
      });
    }
  }
}

async function* whenKnown(asking: Promise<PathInfos>): AsyncIterable<PathInfos> {
  yield await asking;
}
