import { spawn } from 'node:child_process';
import { constants } from 'node:os';

import { messageOf, NicheError, quote } from '../../core/errors.ts';
import type { Environment } from '../environment.ts';

export interface RunOptions {
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Environment;
  readonly cwd: string;
  /** Called with the id of the process once it runs. */
  readonly onStart?: (pid: number) => void;
  /** Called for each signal that asks this process to stop while the command runs. */
  readonly onSignal?: (signal: NodeJS.Signals) => void;
}

/** What asks a program to stop, from a terminal or from whoever started it. */
export const stopSignals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * Runs a command that owns the terminal, and gives its exit status: 128 and the signal's number
 * where a signal ended it, as a shell would. It stays in the foreground's process group, so Ctrl-C
 * reaches it from the terminal; this process outlives it to finish what was built.
 *
 * @throws NicheError `not-found` when the command does not exist, `usage` when it cannot be run
 */
export async function runForeground(options: RunOptions): Promise<number> {
  const { command, args, env, cwd, onStart, onSignal } = options;
  // Before the command: it may run, and someone may want it to stop, before `spawn` returns.
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
      `cannot run ${quote(command)}: ${isMissing ? 'there is no such program' : messageOf(error)}`,
      { cause: error },
    );
  } finally {
    for (const [signal, handler] of handlers) process.off(signal, handler);
  }
}

/** A terminal sends its SIGINT to the whole foreground group; twice would mean "at once". */
function comesFromTerminal(signal: NodeJS.Signals): boolean {
  const { stdin, stdout, stderr } = process;
  return signal === 'SIGINT' && (stdin.isTTY || stdout.isTTY || stderr.isTTY);
}
