import { spawn } from 'node:child_process';
import { text } from 'node:stream/consumers';

export interface ExecuteOptions {
  readonly cwd?: string;
  /** In a lab: variables in addition to the lab's own. */
  readonly env?: Readonly<Record<string, string>>;
  /** The standard input. @default empty */
  readonly input?: string | Uint8Array;
  readonly signal?: AbortSignal;
}

export interface Executed {
  /** The exit status; null when a signal ended it. */
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Runs a command and returns its result for any exit status.
 * @throws Error when it can't be started or was aborted.
 */
export async function execute(
  command: string,
  args: readonly string[],
  options: ExecuteOptions & { readonly env: Readonly<Record<string, string>> },
): Promise<Executed> {
  const { input, ...rest } = options;
  const child = spawn(command, args, { ...rest, stdio: ['pipe', 'pipe', 'pipe'] });
  // A command may exit without reading its standard input.
  child.stdin.on('error', () => undefined);
  child.stdin.end(input ?? '');
  const ended = new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  const [status, stdout, stderr] = await Promise.all([
    ended,
    text(child.stdout),
    text(child.stderr),
  ]);
  return { status, stdout, stderr };
}

/**
 * Returns the output of `executed` without the final newline.
 * @throws Error with its standard error when it failed.
 */
export function outputOf(command: string, args: readonly string[], executed: Executed): string {
  if (executed.status !== 0) {
    const line = [command, ...args].join(' ');
    throw new Error(`${line}: exit status ${executed.status ?? 'none'}\n${executed.stderr}`);
  }
  return executed.stdout.replace(/\n$/, '');
}
