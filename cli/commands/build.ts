import { Option } from 'commander';
import type { Command } from 'commander';

import { isNicheError } from '../../core/errors.ts';
import { isCacheNamed, keysOf, nameCache } from '../cache-url.ts';
import type { Context } from '../context.ts';
import { listenForInterrupt } from '../process/interrupt.ts';
import { chosenStore } from '../watch/build-arguments.ts';
import { appendNixConfig } from '../nix/nix-config.ts';
import { nixCommandFeature, openNix } from '../nix/nix.ts';
import type { Nix } from '../nix/nix.ts';
import { startNoticing } from '../watch/watch.ts';
import type { NoticedPath } from '../watch/watch.ts';
import { ownCacheConfig } from '../nix/own-cache.ts';
import type { OwnCache } from '../nix/own-cache.ts';
import { pathInfosOf } from '../nix/path-infos.ts';
import { openNamedCache } from '../open-cache.ts';
import { runForeground } from '../nix/run.ts';
import type { Progress } from '../ui/progress.ts';
import { finishUpload } from '../upload/finish.ts';
import { addUploadOptions, assertSameStore, openUpload } from '../upload/options.ts';
import type { OpenUpload, UploadFlags } from '../upload/options.ts';
import { describeSetup, startProgress } from '../upload/setup.ts';
import { createUploadSession } from '../upload/session.ts';

interface BuildFlags extends UploadFlags {
  readonly upload: 'required' | 'try' | 'off';
  readonly substitute: boolean;
}

export function addBuild(program: Command, context: Context): void {
  addBuildOptions(
    program
      .command('build')
      .summary('nix build, with what is built uploaded as it is built')
      .description(
        'Runs `nix build` with the given arguments and uploads each store path as soon as it is built, so that what built is cached even when the build fails.',
      )
      .argument('[nix-args...]', 'anything that `nix build` takes'),
  )
    .addHelpText(
      'after',
      `
The exit status is nix's own if nix fails; else 75 when something staged is not published yet, 76 when
something was rejected or could not be staged.

Examples:
  niche build -u file:///srv/cache -- .#default
  niche build -u file:///srv/cache -- -f default.nix --keep-going
  out=$(niche build -u file:///srv/cache -- .#default --print-out-paths)`,
    )
    .action(async (args: string[], flags: BuildFlags) => {
      await runBuild('nix', ['build', ...args], flags, context);
    });
}

export function addExec(program: Command, context: Context): void {
  addBuildOptions(
    program
      .command('exec')
      .summary('any command that builds, with what it builds uploaded')
      .description(
        'Runs a command and uploads each store path that Nix builds for it, as soon as it is built.',
      )
      .argument('<command...>', 'the command and its arguments'),
  )
    .addHelpText(
      'after',
      `
Examples:
  niche exec -u file:///srv/cache -- nix-build release.nix
  niche exec -u file:///srv/cache -- nixos-rebuild build`,
    )
    .action(async ([command = '', ...args]: string[], flags: BuildFlags) => {
      await runBuild(command, args, flags, context);
    });
}

function addBuildOptions(command: Command): Command {
  return addUploadOptions(command)
    .addOption(
      new Option(
        '--upload <policy>',
        'required: stop before building if nothing can be uploaded; try: build all the same, and warn; off: only build, from what the cache has',
      )
        .choices(['required', 'try', 'off'])
        .default('required'),
    )
    .option('--no-substitute', 'do not let the build take paths from the cache')
    .passThroughOptions()
    .allowUnknownOption();
}

async function runBuild(
  command: string,
  args: readonly string[],
  flags: BuildFlags,
  context: Context,
): Promise<void> {
  const startedAt = Date.now();
  const progress = startProgress(context, false);
  const { env, cwd } = context;
  const prepared = await prepare(args, flags, context, progress);
  const config =
    prepared && flags.substitute ? ownCacheConfig(prepared.nix, prepared.ownCache) : [];
  if (!prepared?.upload) {
    const nixConfig = appendNixConfig(env['NIX_CONFIG'], [nixCommandFeature, ...config]);
    const buildEnv = { ...env, NIX_CONFIG: nixConfig };
    context.setExitStatus(await runForeground({ command, args, env: buildEnv, cwd }));
    return;
  }
  const { upload, nix } = prepared;
  describeSetup(upload, nix, context, progress);
  const noticing = await startNoticing({
    nix,
    env,
    command,
    args,
    config,
    onWarning: (message) => {
      progress.line(`warning: ${message}`);
    },
  });
  const interrupt = listenForInterrupt(false);
  const { signal } = interrupt;
  const session = createUploadSession({
    ...upload,
    nix,
    closure: true,
    // What was built may be collected at any time.
    mustExist: false,
    progress,
    signal,
  });
  const noticed = pathsOf(noticing.paths);
  const taking = session.take(pathInfosOf(nix, noticed, { recursive: true, signal }));
  // A failing upload must not take the build down with it: it is told once nix has ended.
  taking.catch(() => undefined);
  try {
    const nixStatus = await runForeground({
      command,
      args,
      env: noticing.env,
      cwd,
      onStart: noticing.nixStarted,
    }).finally(noticing.nixEnded);
    interrupt.arm();
    progress.takeTerminal();
    const options = { flags, progress, interrupt, startedAt, context };
    const status = await finishUpload(session, taking, options);
    const ownStatus = flags.upload === 'try' ? 0 : status;
    context.setExitStatus(interrupt.status() ?? (nixStatus !== 0 ? nixStatus : ownStatus));
  } finally {
    await noticing.close();
    interrupt.close();
  }
}

interface Prepared {
  readonly nix: Nix;
  readonly ownCache: OwnCache;
  /** Null when the build is not uploaded; it takes paths from the cache all the same. */
  readonly upload: OpenUpload | null;
}

/** Null when the build has to do without the cache. */
async function prepare(
  args: readonly string[],
  flags: BuildFlags,
  context: Context,
  progress: Progress,
): Promise<Prepared | null> {
  const { env, cwd } = context;
  const tolerate =
    (without: string) =>
    (error: unknown): null => {
      if (flags.upload === 'required' || !isNicheError(error)) throw error;
      progress.line(`warning: building without ${without}: ${error.message}`);
      return null;
    };
  if (flags.upload === 'off' && !isCacheNamed(flags.cacheUrl, context)) return null;
  const named = nameCache(flags.cacheUrl, flags.publicKey ?? [], context);
  const storeUrl = chosenStore(args);
  const opened = await Promise.all([
    openNamedCache(named, context),
    openNix({ env, cwd, ...(storeUrl === undefined ? {} : { storeUrl }) }),
  ])
    .then(([cache, nix]) => {
      assertSameStore(cache, nix);
      return { cache, nix };
    })
    .catch(tolerate('the cache'));
  if (!opened) return null;
  const { cache, nix } = opened;
  const upload =
    flags.upload === 'off'
      ? null
      : await openUpload(cache, flags, context).catch(tolerate('uploading'));
  const { substituter } = cache.config;
  const ownCache = { substituter, publicKeys: keysOf(named, cache.config) };
  return { nix, ownCache, upload };
}

async function* pathsOf(noticed: AsyncIterable<NoticedPath>): AsyncIterable<string> {
  for await (const { path } of noticed) yield path;
}
