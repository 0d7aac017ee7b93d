import { once } from 'node:events';

import type { Environment } from '../process/environment.ts';
import { nixFailed } from './ask.ts';
import { aborted, cannotRun, isAborted, startQuery } from './capture.ts';

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
  const { child, stderr, kill, release } = startQuery(program, args, { env, cwd, signal });
  const closed = once(child, 'close') as Promise<[number | null]>;
  // Awaited only after the output.
  closed.catch(() => undefined);
  try {
    for await (const chunk of child.stdout as AsyncIterable<Buffer>) yield chunk;
    const status = await exitStatusOf(closed, program);
    if (isAborted(signal)) throw aborted(program);
    if (status !== 0) throw nixFailed(program, args, { status, stderr: stderr() });
  } finally {
    release();
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
    throw cannotRun(program, cause);
  }
}
