import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { formatDuration } from '../../cli/ui/format.ts';

export type Env = Readonly<Record<string, string>>;

/** A command of the demo; `niche` is the one of this checkout. */
export interface Shown {
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Env;
  readonly cwd: string;
  /** The expected exit status. @default 0 */
  readonly status?: number;
}

/** A server that the demo started. */
export interface Server {
  readonly url: string;
  stop(): Promise<void>;
}

const main = join(import.meta.dirname, '../../cli/main.ts');
let steps = 0;

/** Announces and runs a step, and prints its duration. */
export async function step<T>(sentence: string, act: () => Promise<T>): Promise<T> {
  steps += 1;
  console.log(`\n${steps}. ${sentence}`);
  const begun = performance.now();
  const result = await act();
  console.log(`   (${formatDuration(performance.now() - begun)})`);
  return result;
}

/** Prints a line of the result of a step. */
export function say(line: string): void {
  console.log(`     ${line}`);
}

/**
 * Runs a command, prints it with its output, and returns its standard output.
 *
 * @throws Error when the exit status is not the expected one
 */
export async function run(shown: Shown, signal: AbortSignal): Promise<string> {
  const child = start(shown, signal);
  const stdout: string[] = [];
  await Promise.all([
    echo(child.stdout, (line) => stdout.push(line)),
    echo(child.stderr),
    once(child, 'close'),
  ]);
  const { status = 0 } = shown;
  if (child.exitCode !== status) {
    throw new Error(
      `${shown.command}: expected the exit status ${status}, got ${child.exitCode ?? child.signalCode ?? 'none'}`,
    );
  }
  return stdout.join('\n');
}

/** Starts `niche serve` on a free port and waits until it listens. */
export async function serve(
  cache: string,
  place: Pick<Shown, 'env' | 'cwd'>,
  signal: AbortSignal,
): Promise<Server> {
  const args = ['serve', cache, '--port', '0'];
  const child = start({ command: 'niche', args, ...place }, signal);
  const exited = once(child, 'exit');
  const [url] = await Promise.all([
    firstLine(child.stdout, exited),
    firstLine(child.stderr, exited),
  ]);
  return {
    url,
    async stop() {
      child.kill('SIGTERM');
      await exited;
    },
  };
}

/** Prints the lines of `stream`, and resolves with the first one. */
async function firstLine(stream: NodeJS.ReadableStream, exited: Promise<unknown>): Promise<string> {
  const first = Promise.withResolvers<string>();
  void echo(stream, first.resolve);
  void exited.then(() => {
    first.reject(new Error('niche serve ended before it listened'));
  });
  return first.promise;
}

type Started = ChildProcess & {
  readonly stdout: NodeJS.ReadableStream;
  readonly stderr: NodeJS.ReadableStream;
};

function start({ command, args, env, cwd }: Shown, signal: AbortSignal): Started {
  signal.throwIfAborted();
  console.log(`   $ ${[command, ...args].map(shellWord).join(' ')}`);
  const [file, all] = command === 'niche' ? [process.execPath, [main, ...args]] : [command, args];
  return spawn(file, all, { env, cwd, stdio: ['ignore', 'pipe', 'pipe'] });
}

async function echo(
  stream: NodeJS.ReadableStream,
  hear: (line: string) => void = () => undefined,
): Promise<void> {
  for await (const line of createInterface({ input: stream })) {
    say(line);
    hear(line);
  }
}

function shellWord(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
