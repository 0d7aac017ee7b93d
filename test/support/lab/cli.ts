import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';

export interface RunOptions {
  /** Variables over this process's own; undefined takes one away. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string;
  /** What the command reads; nothing when not given. */
  readonly input?: string;
}

export interface Ran {
  /** The exit status; null when a signal ended it. */
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

const main = join(import.meta.dirname, '../../../cli/main.ts');

/** Runs `niche` in a process of its own, to its end. */
export async function runNiche(args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const child = spawnNiche(args, options);
  const [status, stdout, stderr] = await Promise.all([
    ended(child),
    text(child.stdout!),
    text(child.stderr!),
  ]);
  return { status, stdout, stderr };
}

/** A `niche` that goes on until it is told to end. */
export interface RunningNiche {
  /** The first line that it printed. */
  readonly firstLine: string;
  readonly process: ChildProcess;
  /** Sends `signal` and waits for the end. */
  stop(signal?: NodeJS.Signals): Promise<Ran>;
}

/** @throws Error with what it said when it ends without printing a line */
export async function startNiche(
  args: readonly string[],
  options: RunOptions = {},
): Promise<RunningNiche> {
  const child = spawnNiche(args, options);
  const status = ended(child);
  const stderr = text(child.stderr!);
  const lines: string[] = [];
  const reader = createInterface({ input: child.stdout! });
  reader.on('line', (line) => lines.push(line));
  await Promise.race([once(reader, 'line'), once(reader, 'close')]);
  const [firstLine] = lines;
  if (firstLine === undefined) throw new Error(`niche ended: ${await stderr}`);
  return {
    firstLine,
    process: child,
    async stop(signal = 'SIGTERM') {
      child.kill(signal);
      return { status: await status, stdout: lines.join('\n'), stderr: await stderr };
    },
  };
}

function spawnNiche(args: readonly string[], { env, cwd, input }: RunOptions): ChildProcess {
  const child = spawn(process.execPath, [main, ...args], {
    cwd,
    env: { ...process.env, NICHE_CACHE_URL: undefined, NICHE_DEBUG: undefined, ...env },
    stdio: 'pipe',
  });
  // A command may well end without reading what it was given.
  child.stdin.on('error', () => undefined);
  child.stdin.end(input ?? '');
  return child;
}

function ended(child: ChildProcess): Promise<number | null> {
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
}
