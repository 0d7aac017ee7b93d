import { appendNixConfig } from '../nix/nix-config.ts';
import type { NixConfigEntry } from '../nix/nix-config.ts';
import { nixCommandFeature } from '../nix/nix.ts';
import type { Nix } from '../nix/nix.ts';
import { ownCacheConfig } from '../nix/own-cache.ts';
import { pathInfosOf } from '../nix/path-infos.ts';
import type { Context } from '../process/context.ts';
import { runForeground } from '../process/foreground.ts';
import { listenForInterrupt } from '../process/interrupt.ts';
import type { Interrupt } from '../process/interrupt.ts';
import { startProgress } from '../ui/progress.ts';
import type { Progress } from '../ui/progress.ts';
import { describeSetup } from '../upload/describe-setup.ts';
import { finishUpload } from '../upload/finish.ts';
import { createUploadSession } from '../upload/session.ts';
import { watchBuild } from '../watch/watch.ts';
import type { BuiltPath } from '../watch/source.ts';
import type { BuildWatch } from '../watch/watch.ts';
import { prepareBuild } from './prepare.ts';
import type { BuildRequest, PreparedBuild } from './prepare.ts';

/** Runs a command that builds, uploads what it builds meanwhile, and sets the exit status. */
export async function runBuild(request: BuildRequest, context: Context): Promise<void> {
  const startedAtMs = Date.now();
  const progress = startProgress(context, false);
  const prepared = await prepareBuild(request, context, progress);
  const config =
    prepared && request.substitute ? ownCacheConfig(prepared.nix, prepared.ownCache) : [];
  if (!prepared?.upload) {
    await buildOnly(request, config, context);
    return;
  }
  const { nix, upload } = prepared;
  describeSetup(upload.opened, nix, context, progress);
  const { command, args } = request;
  const watch = await watchBuild({
    nix,
    env: context.env,
    command,
    args,
    config,
    onWarning: (message) => {
      progress.line(`warning: ${message}`);
    },
  });
  const interrupt = listenForInterrupt(false);
  try {
    const build = { request, nix, upload, watch, interrupt, progress, startedAtMs };
    await buildAndUpload(build, context);
  } finally {
    await watch.close();
    interrupt.close();
  }
}

async function buildOnly(
  { command, args }: BuildRequest,
  config: readonly NixConfigEntry[],
  context: Context,
): Promise<void> {
  const { env, cwd } = context;
  const nixConfig = appendNixConfig(env['NIX_CONFIG'], [nixCommandFeature, ...config]);
  const buildEnv = { ...env, NIX_CONFIG: nixConfig };
  context.setExitStatus(await runForeground({ command, args, env: buildEnv, cwd }));
}

interface UploadedBuild {
  readonly request: BuildRequest;
  readonly nix: Nix;
  readonly upload: NonNullable<PreparedBuild['upload']>;
  readonly watch: BuildWatch;
  readonly interrupt: Interrupt;
  readonly progress: Progress;
  readonly startedAtMs: number;
}

async function buildAndUpload(build: UploadedBuild, context: Context): Promise<void> {
  const { request, nix, upload, watch, interrupt, progress, startedAtMs } = build;
  const { signal } = interrupt;
  const session = createUploadSession({
    ...upload.opened,
    nix,
    closure: true,
    // A built path may be garbage-collected at any time.
    mustExist: false,
    progress,
    signal,
  });
  const built = pathsOf(watch.paths);
  const staging = session.stage(
    pathInfosOf(nix, built, { recursive: true, signal }),
    watch.derivations,
  );
  // A failing upload must not end the build: finishUpload reports it afterwards.
  staging.catch(() => undefined);
  const buildStatus = await runForeground({
    command: request.command,
    args: watch.args,
    env: watch.env,
    cwd: context.cwd,
    onStart: watch.commandStarted,
  });
  watch.commandEnded(buildStatus);
  interrupt.arm();
  progress.takeTerminal();
  const options = { request: upload.request, progress, interrupt, startedAtMs, context };
  const uploadStatus = await finishUpload(session, staging, options);
  const ownStatus = request.policy === 'try' ? 0 : uploadStatus;
  context.setExitStatus(interrupt.status() ?? (buildStatus !== 0 ? buildStatus : ownStatus));
}

async function* pathsOf(built: AsyncIterable<BuiltPath>): AsyncIterable<string> {
  for await (const { path } of built) yield path;
}
