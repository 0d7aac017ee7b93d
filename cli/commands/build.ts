import { Option } from 'commander';
import type { Command } from 'commander';

import { runBuild } from '../build/run.ts';
import type { BuildPolicy, BuildRequest } from '../build/prepare.ts';
import { isCacheGiven } from '../cache/address.ts';
import type { Context } from '../process/context.ts';
import { addExamples } from '../ui/help.ts';
import { addUploadOptions, uploadRequest } from '../upload/flags.ts';
import type { UploadFlags } from '../upload/flags.ts';

interface BuildFlags extends UploadFlags {
  readonly upload: BuildPolicy;
  readonly substitute: boolean;
}

export function addBuild(program: Command, context: Context): void {
  const command = addBuildOptions(
    program
      .command('build')
      .summary('run nix build and upload paths as they are built')
      .description(
        'Runs `nix build` and uploads each store path as soon as it is built. If the build fails, the ' +
          'paths built so far are cached.\n\n' +
          'The exit status is that of nix if nix fails. Otherwise it is 75 when a staged path is not ' +
          'published yet, and 76 when a path was rejected or could not be staged.',
      )
      .argument('[nix-args...]', 'arguments of `nix build`'),
  ).action(async (args: string[], flags: BuildFlags) => {
    await runBuild(buildRequest('nix', ['build', ...args], flags, context), context);
  });
  addExamples(
    command,
    'niche build -u s3://acme -- .#default',
    'niche build -u /srv/cache -- -f default.nix --keep-going',
    'out=$(niche build -u s3://acme -- .#default --print-out-paths)',
  );
}

export function addExec(program: Command, context: Context): void {
  const command = addBuildOptions(
    program
      .command('exec')
      .summary('run any command and upload the paths that it builds')
      .description(
        'Runs a command and uploads each store path that Nix builds for it, as soon as it is built. ' +
          'Exit statuses are those of `niche build`.',
      )
      .argument('<command...>', 'the command and its arguments'),
  ).action(async ([name = '', ...args]: string[], flags: BuildFlags) => {
    await runBuild(buildRequest(name, args, flags, context), context);
  });
  addExamples(
    command,
    'niche exec -u s3://acme -- nix-build release.nix',
    'niche exec -u s3://acme -- nixos-rebuild build',
  );
}

function addBuildOptions(command: Command): Command {
  return addUploadOptions(command)
    .optionsGroup('Build:')
    .addOption(
      new Option('--upload <policy>', 'required, try (on failure warn and build) or off')
        .choices(['required', 'try', 'off'])
        .default('required'),
    )
    .option('--no-substitute', 'do not take paths from the cache')
    .passThroughOptions()
    .allowUnknownOption();
}

function buildRequest(
  command: string,
  args: readonly string[],
  flags: BuildFlags,
  context: Context,
): BuildRequest {
  const { upload: policy, substitute } = flags;
  const isPlain = policy === 'off' && !isCacheGiven(flags.cacheUrl, context);
  return {
    command,
    args,
    policy,
    substitute,
    upload: isPlain ? null : uploadRequest(flags, context),
  };
}
