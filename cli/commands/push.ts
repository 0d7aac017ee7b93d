import { createInterface } from 'node:readline';

import { Option } from 'commander';
import type { Command } from 'commander';

import { NicheError, isNicheError, quote } from '../../core/errors.ts';
import type { PathInfos } from '../../core/nix/path-info.ts';
import { parseStorePath } from '../../core/nix/store-path.ts';
import { shellWord } from '../../core/util/shell.ts';
import { openCacheAt } from '../cache/open.ts';
import { followToStore } from '../cache/path-argument.ts';
import { askText } from '../nix/ask.ts';
import type { NixConfigEntry } from '../nix/nix-config.ts';
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
  readonly file?: string;
  readonly expr?: string;
  readonly impure: boolean;
  readonly store?: string;
  readonly evalStore?: string;
}

/** What the user wants of a push. */
interface PushRequest {
  /** Store paths, links to them, or installables; attributes when `expression` is given. */
  readonly subjects: readonly string[];
  /** Arguments of Nix that select the expression of the installables. */
  readonly expression: readonly string[];
  /** Further arguments of Nix to evaluate installables. */
  readonly evaluation: readonly string[];
  /** The store with the paths; undefined for the one that Nix is configured for. */
  readonly storeUrl: string | undefined;
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
    .optionsGroup('Nix:')
    .addOption(new Option('-f, --file <file>', 'upload attributes of this file').conflicts('expr'))
    .option('--expr <expression>', 'upload attributes of this expression')
    .option('--impure', 'let the evaluation read the environment and any file', false)
    .option('--store <url>', 'store with the paths, such as ssh-ng://host (default: Nix’s)')
    .option('--eval-store <url>', 'store to evaluate installables in')
    .action(async (subjects: string[], flags: PushFlags) => {
      await push(pushRequest(subjects, flags, context), context);
    });
  addExamples(
    command,
    'niche push -u s3://acme ./result',
    'niche push -u s3://acme .#default',
    'niche push -u s3://acme -f release.nix tests',
    'nix-store -qR /run/current-system | niche push -u /srv/cache',
  );
}

function pushRequest(subjects: readonly string[], flags: PushFlags, context: Context): PushRequest {
  const { closure, file, expr, impure, store, evalStore } = flags;
  return {
    subjects,
    expression: [
      ...(file === undefined ? [] : ['--file', file]),
      ...(expr === undefined ? [] : ['--expr', expr]),
    ],
    evaluation: [
      ...(impure ? ['--impure'] : []),
      ...(evalStore === undefined ? [] : ['--eval-store', evalStore]),
    ],
    storeUrl: store,
    closure,
    upload: uploadRequest(flags, context),
  };
}

async function push(request: PushRequest, context: Context): Promise<void> {
  const startedAtMs = Date.now();
  const { subjects, expression, storeUrl, closure } = request;
  const { env, cwd } = context;
  const fromInput = subjects.length === 0 && expression.length === 0;
  const openingCache = openCacheAt(request.upload.cache, context);
  const openingNix = openNix({ env, cwd, storeUrl });
  // Queries Nix while the cache opens, which takes some round trips.
  const resolving = openingNix.then((nix) => resolvePaths(nix, request));
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
    fromInput
      ? pathInfosOf(nix, readLines(context, nix), { recursive: closure, signal })
      : onceKnown(querying),
  );
  const options = { request: request.upload, progress, interrupt, startedAtMs, context };
  context.setExitStatus(await finishUpload(session, staging, options));
  interrupt.close();
}

/** Nix needs it for installables such as `.#default`. */
const flakes: NixConfigEntry = ['extra-experimental-features', 'flakes'];

/**
 * Returns store paths as they are and follows links to them; Nix resolves everything else.
 *
 * @throws NicheError `nix-failed`
 */
async function resolvePaths(nix: Nix, request: PushRequest): Promise<string[]> {
  const { subjects, expression, evaluation } = request;
  const paths: string[] = [];
  const installables: string[] = [];
  for (const subject of subjects) {
    const path = expression.length > 0 ? null : followToStore(subject, nix.storeDir, nix.cwd);
    if (path === null) installables.push(subject);
    else paths.push(path);
  }
  if (installables.length === 0 && expression.length === 0) return paths;
  const args = ['path-info', ...evaluation, ...expression, ...installables];
  const printed = await askText(nix.ask, 'nix', args, { config: [flakes] }).catch(
    (error: unknown) => {
      throw explainUnbuilt(error, [...expression, ...installables]);
    },
  );
  return [...paths, ...printed.split('\n').filter((line) => line !== '')];
}

/** Adds a hint to Nix's error about installables that were not built. */
function explainUnbuilt(error: unknown, installables: readonly string[]): unknown {
  if (!isNicheError(error, 'nix-failed') || !/\bpath '.*' is not valid/.test(error.message)) {
    return error;
  }
  const hint = `build it first: nix build ${installables.map(shellWord).join(' ')}`;
  return new NicheError(error.code, error.message, { cause: error, hint });
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
