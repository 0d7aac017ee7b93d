import { spawn } from 'node:child_process';
import { once } from 'node:events';

import { NicheError, messageOf, quote } from '../../core/errors.ts';
import type { Environment } from '../process/environment.ts';
import { nixFailed } from './ask.ts';
import { aborted, isAborted, killGroup, maxStderrCharacters } from './capture.ts';

export interface StreamOptions {
  readonly env: Environment;
  readonly cwd: string;
  /** Kills the program and its children with SIGTERM. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Runs `program` with an empty standard input and yields its output while it runs. It runs in a session
 * of its own, as in {@link capture}. A consumer that stops early ends it.
 *
 * @throws NicheError `nix-failed` at the end when its exit status is not 0; `nix-missing` when it cannot
 *   start; `aborted` through `signal`
 */
export async function* streamOutput(
  program: string,
  args: readonly string[],
  { env, cwd, signal }: StreamOptions,
): AsyncGenerator<Uint8Array, undefined> {
  if (isAborted(signal)) throw aborted(program);
  const child = spawn(program, args, {
    env,
    cwd,
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  const closed = once(child, 'close') as Promise<[number | null]>;
  // Awaited only after the output.
  closed.catch(() => undefined);
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-maxStderrCharacters);
  });
  const kill = (): void => {
    killGroup(child.pid);
  };
  signal?.addEventListener('abort', kill, { once: true });
  try {
    for await (const chunk of child.stdout as AsyncIterable<Buffer>) yield chunk;
    const status = await exitStatusOf(closed, program);
    if (isAborted(signal)) throw aborted(program);
    if (status !== 0) throw nixFailed(program, args, { status, stderr });
  } finally {
    signal?.removeEventListener('abort', kill);
    if (child.exitCode === null && child.signalCode === null) kill();
  }
}

async function exitStatusOf(
  closed: Promise<[number | null]>,
  program: string,
): Promise<number | null> {
  try {
    const [status] = await closed;
    return status;
  } catch (cause) {
    throw new NicheError('nix-missing', `cannot run ${quote(program)}: ${messageOf(cause)}`, {
      cause,
    });
  }
}
