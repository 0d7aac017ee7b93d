import { Option } from 'commander';
import type { Command } from 'commander';

import { isNicheError } from '../../core/errors.ts';
import type { Context } from '../context.ts';
import { listenForInterrupt } from '../interrupt.ts';
import { chosenStore } from '../nix/build-arguments.ts';
import { openNix } from '../nix/nix.ts';
import { startNoticing } from '../nix/notice.ts';
import type { NoticedPath } from '../nix/notice.ts';
import { ownCacheConfig } from '../nix/own-cache.ts';
import { runForeground } from '../nix/run.ts';
import type { Progress } from '../ui/progress.ts';
import { finishUpload } from '../upload/finish.ts';
import { addUploadOptions, assertSameStore, openUpload } from '../upload/options.ts';
import { describeSetup, startProgress } from '../upload/setup.ts';
import type { UploadFlags } from '../upload/options.ts';
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
        'required: stop before building if nothing can be uploaded; try: build all the same, and warn; off: only build',
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
  const prepared = flags.upload === 'off' ? null : await prepare(args, flags, context, progress);
  if (!prepared) {
    context.setExitStatus(await runForeground({ command, args, env, cwd }));
    return;
  }
  const { upload, nix } = prepared;
  describeSetup(upload, nix, context, progress);
  const noticing = await startNoticing({
    nix,
    env,
    command,
    args,
    config: flags.substitute ? ownCacheConfig(nix, upload.cache.config) : [],
    onWarning: (message) => {
      progress.line(`warning: ${message}`);
    },
  });
  const interrupt = listenForInterrupt(false);
  const { signal } = interrupt;
  const session = createUploadSession({ ...upload, nix, closure: true, progress, signal });
  const taking = session.take(pathsOf(noticing.paths));
  // A failing upload must not take the build down with it: it is told once nix has ended.
  taking.catch(() => undefined);
  let nixStatus: number;
  try {
    nixStatus = await runForeground({
      command,
      args,
      env: noticing.env,
      cwd,
      onStart: noticing.nixStarted,
    });
  } finally {
    noticing.nixEnded();
  }
  interrupt.arm();
  progress.takeTerminal();
  const options = { flags, progress, interrupt, startedAt, context };
  const status = await finishUpload(session, taking, options);
  await noticing.close();
  interrupt.close();
  context.setExitStatus(nixStatus !== 0 ? nixStatus : flags.upload === 'try' ? 0 : status);
}

async function prepare(
  args: readonly string[],
  flags: BuildFlags,
  context: Context,
  progress: Progress,
): Promise<{
  upload: Awaited<ReturnType<typeof openUpload>>;
  nix: Awaited<ReturnType<typeof openNix>>;
} | null> {
  const storeUrl = chosenStore(args);
  try {
    const [upload, nix] = await Promise.all([
      openUpload(flags, context),
      openNix({
        env: context.env,
        cwd: context.cwd,
        ...(storeUrl === undefined ? {} : { storeUrl }),
      }),
    ]);
    assertSameStore(upload.cache, nix);
    return { upload, nix };
  } catch (error) {
    if (flags.upload === 'required' || !isNicheError(error)) throw error;
    progress.line(`warning: building without uploading: ${error.message}`);
    return null;
  }
}

async function* pathsOf(noticed: AsyncIterable<NoticedPath>): AsyncIterable<string> {
  for await (const { path } of noticed) yield path;
}
