import { spawn } from 'node:child_process';
import { constants } from 'node:os';

import { messageOf, NicheError, quote } from '../../core/errors.ts';
import type { Environment } from './environment.ts';

export interface RunOptions {
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Environment;
  readonly cwd: string;
  /** Called with the process id once it runs. */
  readonly onStart?: (pid: number) => void;
  /** Called for each stop signal that arrives while the command runs. */
  readonly onSignal?: (signal: NodeJS.Signals) => void;
}

/** The signals that stop a program, from a terminal or a supervisor. */
export const stopSignals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * Runs a command in the foreground and returns its exit status: after a signal, 128 plus its number,
 * as in a shell. The command stays in the terminal's process group, so it receives Ctrl-C; this
 * process outlives it to finish the upload.
 *
 * @throws NicheError `not-found` when the command does not exist, `usage` when it cannot be run
 */
export async function runForeground(options: RunOptions): Promise<number> {
  const { command, args, env, cwd, onStart, onSignal } = options;
  // Installed before the command starts: a signal may arrive before `spawn` returns.
  const handlers = stopSignals.map((signal) => {
    const handler = (): void => {
      onSignal?.(signal);
      if (!comesFromTerminal(signal)) child.kill(signal);
    };
    process.on(signal, handler);
    return [signal, handler] as const;
  });
  const child = spawn(command, args, { env, cwd, stdio: 'inherit' });
  try {
    return await new Promise<number>((resolve, reject) => {
      child.once('spawn', () => {
        if (child.pid !== undefined) onStart?.(child.pid);
      });
      child.once('error', reject);
      child.once('exit', (status, signal) => {
        resolve(signal === null ? (status ?? 1) : 128 + constants.signals[signal]);
      });
    });
  } catch (error) {
    const isMissing = error instanceof Error && 'code' in error && error.code === 'ENOENT';
    throw new NicheError(
      isMissing ? 'not-found' : 'usage',
      `cannot run ${quote(command)}: ${isMissing ? 'no such program' : messageOf(error)}`,
      { cause: error },
    );
  } finally {
    for (const [signal, handler] of handlers) process.off(signal, handler);
  }
}

/** A terminal sends SIGINT to the command too; passing it on would look like a second Ctrl-C. */
function comesFromTerminal(signal: NodeJS.Signals): boolean {
  const { stdin, stdout, stderr } = process;
  return signal === 'SIGINT' && (stdin.isTTY || stdout.isTTY || stderr.isTTY);
}
