import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';

export interface NicheOptions {
  /** All of its environment; `PATH` is this process's unless it is given. */
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Its stdin. @default empty */
  readonly input?: string;
  /** The user to run as; takes root. */
  readonly uid?: number;
}

export interface NicheRun {
  /** The exit status; null where a signal ended it. */
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A `niche` of which nothing is known yet but its process. */
export interface RunningNiche {
  readonly process: ChildProcess;
  readonly ended: Promise<NicheRun>;
  /** Sends the signal to niche and what it started, as a terminal does for Ctrl-C. */
  interrupt(signal: NodeJS.Signals): void;
}

const main = join(import.meta.dirname, '../../../cli/main.ts');

/** Runs `niche` with `args` to its end, as a process of its own. */
export async function runNiche(
  args: readonly string[],
  options: NicheOptions = {},
): Promise<NicheRun> {
  return spawnNiche(args, options).ended;
}

/** Starts `niche` in a process group of its own. */
export function spawnNiche(args: readonly string[], options: NicheOptions = {}): RunningNiche {
  const { env, cwd, input = '', uid } = options;
  const child = spawn(process.execPath, [main, ...args], {
    env: { PATH: process.env['PATH'], ...env },
    cwd,
    stdio: 'pipe',
    detached: true,
    ...(uid === undefined ? {} : { uid, gid: uid }),
  });
  // A command that reads no stdin may have closed it before all of it was written.
  child.stdin.on('error', () => undefined).end(input);
  const closed = new Promise<Pick<NicheRun, 'status' | 'signal'>>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (status, signal) => {
      resolve({ status, signal });
    });
  });
  const said = Promise.all([closed, text(child.stdout), text(child.stderr)]);
  return {
    process: child,
    ended: said.then(([how, stdout, stderr]) => ({ ...how, stdout, stderr })),
    interrupt(signal) {
      if (child.pid !== undefined) process.kill(-child.pid, signal);
    },
  };
}
