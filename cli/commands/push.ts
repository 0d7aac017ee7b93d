import { createInterface } from 'node:readline';

import type { Command } from 'commander';

import { NicheError, quote } from '../../core/errors.ts';
import type { PathInfos } from '../../core/nix/path-info.ts';
import { parseStorePath } from '../../core/nix/store-path.ts';
import { openCacheAt } from '../cache/open.ts';
import { followToStore } from '../cache/path-argument.ts';
import { askText } from '../nix/ask.ts';
import { openNix } from '../nix/nix.ts';
import type { Nix } from '../nix/nix.ts';
import { pathInfosOf } from '../nix/path-infos.ts';
import { queryPathInfos } from '../nix/query.ts';
import type { Context } from '../process/context.ts';
import { listenForInterrupt } from '../process/interrupt.ts';
import { addExamples } from '../ui/help.ts';
import { startProgress } from '../ui/progress.ts';
import { describeSetup } from '../upload/describe-setup.ts';
import { finishUpload } from '../upload/finish.ts';
import { addUploadOptions, uploadRequest } from '../upload/flags.ts';
import type { UploadFlags, UploadRequest } from '../upload/flags.ts';
import { assertSameStore, openUpload } from '../upload/open.ts';
import { createUploadSession } from '../upload/session.ts';

interface PushFlags extends UploadFlags {
  readonly closure: boolean;
}

/** What the user wants of a push. */
interface PushRequest {
  /** Store paths, links to them, or installables; from standard input when there are none. */
  readonly subjects: readonly string[];
  /** Whether the references of the paths are uploaded too. */
  readonly closure: boolean;
  readonly upload: UploadRequest;
}

export function addPush(program: Command, context: Context): void {
  const command = addUploadOptions(
    program
      .command('push')
      .summary('upload store paths of this machine')
      .description(
        'Uploads store paths, or the paths of installables, with all their references. Without ' +
          'arguments it reads store paths from standard input, one a line.',
      )
      .argument('[path...]', 'store paths, links to them, or installables'),
  )
    .optionsGroup('Upload:')
    .option('--no-closure', 'upload only the paths; they are published once their references are')
    .action(async (subjects: string[], flags: PushFlags) => {
      const { closure } = flags;
      await push({ subjects, closure, upload: uploadRequest(flags, context) }, context);
    });
  addExamples(
    command,
    'niche push -u s3://acme ./result',
    'niche push -u s3://acme .#default',
    'nix-store -qR /run/current-system | niche push -u /srv/cache',
  );
}

async function push(request: PushRequest, context: Context): Promise<void> {
  const startedAtMs = Date.now();
  const { subjects, closure } = request;
  const openingCache = openCacheAt(request.upload.cache, context);
  const openingNix = openNix({ env: context.env, cwd: context.cwd });
  // Queries Nix while the cache opens, which takes some round trips.
  const resolving = openingNix.then((nix) => resolvePaths(nix, subjects));
  const querying = resolving.then(async (paths) =>
    queryPathInfos(await openingNix, paths, { recursive: closure }),
  );
  for (const early of [resolving, querying]) early.catch(() => undefined);
  const [cache, nix] = await Promise.all([openingCache, openingNix]);
  assertSameStore(cache, nix);
  const progress = startProgress(context, true);
  const upload = await openUpload(cache, request.upload, context, progress);
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
  const staging = session.stage(
    subjects.length > 0
      ? onceKnown(querying)
      : pathInfosOf(nix, readLines(context, nix), { recursive: closure, signal }),
  );
  const options = { request: request.upload, progress, interrupt, startedAtMs, context };
  context.setExitStatus(await finishUpload(session, staging, options));
  interrupt.close();
}

/** Returns store paths as they are and follows links to them; Nix resolves everything else. */
async function resolvePaths(nix: Nix, args: readonly string[]): Promise<string[]> {
  const followed = args.map((arg) => followToStore(arg, nix.storeDir, nix.cwd));
  const paths = followed.filter((path) => path !== null);
  const installables = args.filter((_, at) => followed[at] === null);
  if (installables.length === 0) return paths;
  const printed = await askText(nix.ask, 'nix', ['path-info', ...installables]);
  return [...paths, ...printed.split('\n').filter((line) => line !== '')];
}

async function* readLines(context: Context, nix: Nix): AsyncIterable<string> {
  for await (const line of createInterface({ input: context.stdin })) {
    const text = line.trim();
    if (text === '') continue;
    try {
      yield parseStorePath(text, nix.storeDir).path;
    } catch (cause) {
      const message = `invalid line on standard input: expected a store path, got ${quote(text)}`;
      throw new NicheError('usage', message, { cause });
    }
  }
}

async function* onceKnown(querying: Promise<PathInfos>): AsyncIterable<PathInfos> {
  yield await querying;
}
