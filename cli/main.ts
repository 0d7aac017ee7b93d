import { constants } from 'node:os';

import { Command, CommanderError } from 'commander';

import packageJson from '../package.json' with { type: 'json' };
import { fileError } from '../core/storage/file/errors.ts';
import { isErrno } from '../core/util/errno.ts';
import { addAudit } from './commands/audit.ts';
import { addBlock } from './commands/block.ts';
import { addBuild, addExec } from './commands/build.ts';
import { addConfig } from './commands/config.ts';
import { addInfra } from './commands/infra.ts';
import { addInit } from './commands/init.ts';
import { addKey } from './commands/key.ts';
import { addPush } from './commands/push.ts';
import { addResign } from './commands/resign.ts';
import { addServe } from './commands/serve.ts';
import { addShow } from './commands/show.ts';
import { addStatus } from './commands/status.ts';
import { addUse } from './commands/use.ts';
import { addVerify } from './commands/verify.ts';
import { addWorker } from './commands/worker.ts';
import type { Context, Output } from './context.ts';
import { takeSecrets } from './secrets/secret-variables.ts';
import { describeError } from './ui/describe-error.ts';
import { sizeThreadPool } from './process/thread-pool.ts';

/** The command line, ready to parse. */
export function createProgram(context: Context): Command {
  const program = new Command('niche')
    .description('Nix binary caches without a server')
    .version(`niche ${context.version}`)
    .enablePositionalOptions()
    .showHelpAfterError('(see --help)')
    .configureOutput({
      writeOut: (text) => {
        context.stdout.write(text);
      },
      writeErr: (text) => {
        context.stderr.write(text);
      },
    })
    .exitOverride();
  addInit(program, context);
  addBuild(program, context);
  addExec(program, context);
  addPush(program, context);
  addShow(program, context);
  addStatus(program, context);
  addVerify(program, context);
  addAudit(program, context);
  addBlock(program, context);
  addInfra(program, context);
  addUse(program, context);
  addServe(program, context);
  addWorker(program, context);
  addKey(program, context);
  addResign(program, context);
  addConfig(program, context);
  return program;
}

/** Runs one command line to its end; everything that goes wrong becomes a message and a status. */
export async function run(args: readonly string[], context: Context): Promise<void> {
  try {
    await createProgram(context).parseAsync(args, { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError) {
      context.setExitStatus(error.exitCode);
      return;
    }
    context.setExitStatus(1);
    tellError(error, context);
  }
}

function tellError(error: unknown, { env, stderr }: Context): void {
  for (const line of describeError(error, env)) stderr.write(`niche: ${line}\n`);
}

/** @param onFailed called when the stream takes nothing any more */
function outputTo(stream: NodeJS.WriteStream, onFailed: (error: Error) => void): Output {
  stream.on('error', onFailed);
  return {
    write: (text) => {
      stream.write(text);
    },
    isTty: stream.isTTY,
    columns: stream.columns,
  };
}

/** Runs this process's command line. */
export async function runProcess(): Promise<void> {
  sizeThreadPool();
  const context: Context = {
    secrets: takeSecrets(process.env),
    env: process.env,
    cwd: process.cwd(),
    version: packageJson.version,
    stdout: outputTo(process.stdout, (error) => {
      // Nobody reads any more, as of `| head`: that is no fault. A full disk is.
      if (isErrno(error, 'EPIPE')) process.exit(128 + constants.signals.SIGPIPE);
      tellError(fileError(error, 'writing to standard output'), context);
      process.exit(1);
    }),
    stderr: outputTo(process.stderr, () => undefined),
    stdin: process.stdin,
    setExitStatus(status) {
      process.exitCode = status;
    },
  };
  process.on('uncaughtException', (error) => {
    tellError(error, context);
    process.exit(1);
  });
  await run(process.argv.slice(2), context);
  // What an interrupted command leaves under way must not keep the process.
  if (Number(process.exitCode) > 128) process.exit();
}

if (import.meta.main) await runProcess();
