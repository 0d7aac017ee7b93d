import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';

export interface NicheOptions {
  /** Variables in addition to this process's own; undefined removes one. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string;
  /** Its standard input. @default empty */
  readonly input?: string;
  /** The user to run as; requires root. */
  readonly uid?: number;
}

export interface NicheRun {
  /** The exit status; null after a signal. */
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A `niche` in a separate process. */
export interface RunningNiche {
  readonly process: ChildProcess;
  readonly ended: Promise<NicheRun>;
  /** Sends the signal to niche and its children, as a terminal does for Ctrl-C. */
  interrupt(signal: NodeJS.Signals): void;
}

/** A server: `niche serve` or `niche worker`. */
export interface NicheServer extends RunningNiche {
  /** The first line that it printed. */
  readonly firstLine: string;
  /** Sends `signal` and waits for the exit. @default SIGTERM */
  stop(signal?: NodeJS.Signals): Promise<NicheRun>;
}

/** The bundle, where the runner has made one: it starts in a third of the time. */
const main = process.env['NICHE_TEST_MAIN'] ?? join(import.meta.dirname, '../../../cli/main.ts');

/** Runs `niche` with `args` in a separate process. */
export async function runNiche(
  args: readonly string[],
  options: NicheOptions = {},
): Promise<NicheRun> {
  return spawnNiche(args, options).ended;
}

/**
 * Starts `niche` and waits for the first line of its output.
 * @throws Error with its standard error when it exits without output
 */
export async function startNiche(
  args: readonly string[],
  options: NicheOptions = {},
): Promise<NicheServer> {
  const niche = spawnNiche(args, options);
  const reader = createInterface({ input: niche.process.stdout! });
  const [firstLine] = (await Promise.race([once(reader, 'line'), once(reader, 'close')])) as [
    string | undefined,
  ];
  if (firstLine === undefined) throw new Error(`niche ended: ${(await niche.ended).stderr}`);
  return {
    ...niche,
    firstLine,
    async stop(signal = 'SIGTERM') {
      niche.process.kill(signal);
      return niche.ended;
    },
  };
}

/** Starts `niche` in its own process group. */
export function spawnNiche(args: readonly string[], options: NicheOptions = {}): RunningNiche {
  const { env, cwd, input = '', uid } = options;
  const child = spawn(process.execPath, [main, ...args], {
    env: { ...process.env, NICHE_CACHE_URL: undefined, NICHE_DEBUG: undefined, ...env },
    cwd,
    stdio: 'pipe',
    detached: true,
    ...(uid === undefined ? {} : { uid, gid: uid }),
  });
  // A command may close its stdin before everything was written.
  child.stdin.on('error', () => undefined).end(input);
  const closed = new Promise<Pick<NicheRun, 'status' | 'signal'>>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (status, signal) => {
      resolve({ status, signal });
    });
  });
  const output = Promise.all([closed, text(child.stdout), text(child.stderr)]);
  return {
    process: child,
    ended: output.then(([how, stdout, stderr]) => ({ ...how, stdout, stderr })),
    interrupt(signal) {
      if (child.pid !== undefined) process.kill(-child.pid, signal);
    },
  };
}
