import { constants } from 'node:os';

import { Command, CommanderError } from 'commander';

import packageJson from '../package.json' with { type: 'json' };
import { fileError } from '../core/storage/file/errors.ts';
import { isErrno } from '../core/util/errno.ts';
import { configureNetwork } from '../core/util/network.ts';
import { addAudit } from './commands/audit.ts';
import { addBlock } from './commands/block.ts';
import { addBuild, addExec } from './commands/build.ts';
import { addConfig } from './commands/config.ts';
import { addInfra } from './commands/infra.ts';
import { addInit } from './commands/init.ts';
import { addKey } from './commands/key.ts';
import { addPush } from './commands/push.ts';
import { addRepair } from './commands/repair.ts';
import { addResign } from './commands/resign.ts';
import { addServe } from './commands/serve.ts';
import { addShow } from './commands/show.ts';
import { addStatus } from './commands/status.ts';
import { addUse } from './commands/use.ts';
import { addVerify } from './commands/verify.ts';
import { addWorker } from './commands/worker.ts';
import type { Context } from './process/context.ts';
import { openOutput } from './process/output.ts';
import { sizeThreadPool } from './process/thread-pool.ts';
import { workingDirectory } from './process/working-directory.ts';
import { takeSecrets } from './secrets/secret-variables.ts';
import { describeError } from './ui/describe-error.ts';
import { styleHelp, toUsageError } from './ui/help.ts';

/** Returns the command line's parser, with all commands. */
export function createProgram(context: Context): Command {
  const program = new Command('niche')
    .description('Nix binary caches straight on object storage. No server to run.')
    .version(`niche ${context.version}`, '-V, --version', 'print the version')
    .enablePositionalOptions()
    .configureOutput({
      writeOut: (text) => {
        context.stdout.write(text);
      },
      writeErr: (text) => {
        context.stderr.write(text);
      },
      outputError: (text, write) => {
        write(toUsageError(text));
      },
    })
    .exitOverride();
  program.commandsGroup('Set up:');
  addInit(program, context);
  addUse(program, context);
  addInfra(program, context);
  program.commandsGroup('Build and upload:');
  addBuild(program, context);
  addExec(program, context);
  addPush(program, context);
  program.commandsGroup('Publish and serve:');
  addWorker(program, context);
  addServe(program, context);
  program.commandsGroup('Inspect:');
  addShow(program, context);
  addStatus(program, context);
  addVerify(program, context);
  addAudit(program, context);
  program.commandsGroup('Administer:');
  addKey(program, context);
  addResign(program, context);
  addRepair(program, context);
  addConfig(program, context);
  addBlock(program, context);
  program.commandsGroup('Help:').helpCommand('help [command]', 'show the help of a command');
  styleHelp(program);
  return program;
}

/** Runs one command line to its end. Every error becomes a message and an exit status. */
export async function run(args: readonly string[], context: Context): Promise<void> {
  try {
    await createProgram(context).parseAsync(args, { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError) {
      context.setExitStatus(error.exitCode);
      return;
    }
    context.setExitStatus(1);
    printError(error, context);
  }
}

function printError(error: unknown, { env, stderr }: Context): void {
  for (const line of describeError(error, env)) stderr.write(`${line}\n`);
}

/** Runs the command line of this process. */
export async function runProcess(): Promise<void> {
  sizeThreadPool();
  const secrets = takeSecrets(process.env);
  // The programs that niche runs get what the user set, and niche itself has a wider `no_proxy`.
  const env = { ...process.env };
  const warning = configureNetwork(process.env);
  const context: Context = {
    secrets,
    env,
    // Only when a command needs it: the directory may be gone.
    get cwd() {
      return workingDirectory();
    },
    version: packageJson.version,
    stdout: openOutput(process.stdout, {
      isForPeople: false,
      onFailed: (error) => {
        // A closed pipe, as in `| head`, is no failure; a full disk is.
        if (isErrno(error, 'EPIPE')) process.exit(128 + constants.signals.SIGPIPE);
        printError(fileError(error, 'writing to standard output'), context);
        process.exit(1);
      },
    }),
    stderr: openOutput(process.stderr, { isForPeople: true, onFailed: () => undefined }),
    stdin: process.stdin,
    setExitStatus(status) {
      process.exitCode = status;
    },
  };
  process.on('uncaughtException', (error) => {
    printError(error, context);
    process.exit(1);
  });
  if (warning !== null) context.stderr.write(`niche: warning: ${warning}\n`);
  await run(process.argv.slice(2), context);
  // Work that an interrupted command abandoned must not keep the process running.
  if (Number(process.exitCode) > 128) process.exit();
}

if (import.meta.main) await runProcess();
