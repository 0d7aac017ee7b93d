import { spawn } from 'node:child_process';
import type { ChildProcessByStdio } from 'node:child_process';
import type { Readable } from 'node:stream';

import { messageOf, NicheError, quote } from '../../core/errors.ts';
import type { Environment } from '../process/environment.ts';

export interface CaptureOptions {
  readonly env: Environment;
  readonly cwd?: string | undefined;
  /** Kills the program and its children with SIGTERM. */
  readonly signal?: AbortSignal | undefined;
  /** The most bytes of standard output to keep; the rest is dropped. @default all */
  readonly maxBytes?: number;
}

export interface Captured {
  /** The exit status, or null after a signal. */
  readonly status: number | null;
  readonly stdout: Buffer;
  /** Whether stdout was longer than `maxBytes`. */
  readonly cut: boolean;
  /** The last 64 KiB at most. */
  readonly stderr: string;
}

/** Of standard error, the end is kept. */
const maxStderrCharacters = 64 * 1024;

/**
 * Runs `program` to its end with an empty standard input. It runs in a session of its own: Ctrl-C for
 * the Nix in the foreground must not end niche's queries, and they must not prompt on the terminal.
 *
 * @throws NicheError `nix-missing` when it cannot start, `aborted` through `signal`
 */
export async function capture(
  program: string,
  args: readonly string[],
  options: CaptureOptions,
): Promise<Captured> {
  const { env, cwd, signal, maxBytes = Number.POSITIVE_INFINITY } = options;
  if (isAborted(signal)) throw aborted(program);
  const { child, stderr, release } = startQuery(program, args, { env, cwd, signal });
  const chunks: Buffer[] = [];
  let keptBytes = 0;
  let cut = false;
  child.stdout.on('data', (chunk: Buffer) => {
    const kept = chunk.subarray(0, maxBytes - keptBytes);
    cut ||= kept.length < chunk.length;
    keptBytes += kept.length;
    if (kept.length > 0) chunks.push(kept);
  });
  try {
    const status = await new Promise<number | null>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', resolve);
    });
    if (isAborted(signal)) throw aborted(program);
    return { status, stdout: Buffer.concat(chunks), cut, stderr: stderr() };
  } catch (error) {
    if (error instanceof NicheError) throw error;
    throw cannotRun(program, error);
  } finally {
    release();
  }
}

/** A program that was started, with an empty standard input. */
export interface Query {
  readonly child: ChildProcessByStdio<null, Readable, Readable>;
  /** Returns the end of what it has written to standard error, 64 KiB at most. */
  readonly stderr: () => string;
  /** Ends it with its children. */
  readonly kill: () => void;
  /** Stops listening to the signal. */
  readonly release: () => void;
}

/** Starts a program in a session of its own. The signal ends it with its children. */
export function startQuery(
  program: string,
  args: readonly string[],
  { env, cwd, signal }: Pick<CaptureOptions, 'env' | 'cwd' | 'signal'>,
): Query {
  const child = spawn(program, args, {
    env,
    cwd,
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-maxStderrCharacters);
  });
  const kill = (): void => {
    killGroup(child.pid);
  };
  signal?.addEventListener('abort', kill, { once: true });
  const release = (): void => {
    signal?.removeEventListener('abort', kill);
  };
  return { child, stderr: () => stderr, kill, release };
}

export function cannotRun(program: string, cause: unknown): NicheError {
  const message = `cannot run ${quote(program)}: ${messageOf(cause)}`;
  return new NicheError('nix-missing', message, { cause });
}

export function isAborted(signal: AbortSignal | undefined): boolean {
  return signal?.aborted === true;
}

export function aborted(program: string): NicheError {
  return new NicheError('aborted', `${quote(program)} was stopped`);
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGTERM');
  } catch {
    // It has ended already.
  }
}
