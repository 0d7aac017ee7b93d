import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { text } from 'node:stream/consumers';

/** The resources that one command used. */
export interface Cost {
  readonly wallSeconds: number;
  /** User and system time of the command and of the children that it waited for. */
  readonly cpuSeconds: number;
  /** The largest resident set of any of its processes (VmHWM), in bytes. */
  readonly peakBytes: number;
}

export interface Command {
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
}

/** Interval between two memory samples. VmHWM includes peaks between samples. */
const memoryPollMs = 20;

/** Length to which a failed command line and its standard error are cut in messages. */
const maxShownCharacters = 2000;

/** Runs a command and writes the shell's `times` of its children to file descriptor 3. */
const script = '"$@"; status=$?; times >&3; exit $status';

/**
 * Runs a command to its end.
 *
 * @throws Error with its standard error when it fails
 */
export async function measure({ command, args, env, cwd }: Command): Promise<Cost> {
  const startedAt = performance.now();
  const child = spawn('/bin/sh', ['-c', script, 'sh', command, ...args], {
    env,
    cwd,
    stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
  });
  const closed = once(child, 'close');
  const { pid, stderr, stdio } = child;
  const times = stdio[3];
  if (pid === undefined || stderr === null || !times || !('read' in times)) {
    throw new Error(`${command} could not be started`);
  }
  const printed = Promise.all([text(stderr), text(times)]);
  let peakBytes = 0;
  const look = (): void => {
    for (const each of descendants(pid)) peakBytes = Math.max(peakBytes, highWaterMark(each));
  };
  const poll = setInterval(look, memoryPollMs);
  const [status] = (await closed) as [number | null];
  const wallSeconds = (performance.now() - startedAt) / 1000;
  clearInterval(poll);
  const [errors, spent] = await printed;
  if (status !== 0) {
    const line = [command, ...args].join(' ').slice(0, maxShownCharacters);
    const why = errors.slice(-maxShownCharacters);
    throw new Error(`${line}: exit status ${status ?? 'none'}\n${why}`);
  }
  return { wallSeconds, cpuSeconds: childSeconds(spent), peakBytes };
}

/** Parses the second line of `times`, such as `0m1.230s 0m0.45s`: the times of the children. */
function childSeconds(times: string): number {
  const line = times.trim().split('\n')[1] ?? '';
  const spent = [...line.matchAll(/(\d+)m([\d.]+)s/g)];
  return spent.reduce(
    (sum, [, minutes, seconds]) => sum + 60 * Number(minutes) + Number(seconds),
    0,
  );
}

function descendants(pid: number): number[] {
  const children = procFile(pid, `task/${pid}/children`).trim().split(' ').filter(Boolean);
  return children.map(Number).flatMap((child) => [child, ...descendants(child)]);
}

function highWaterMark(pid: number): number {
  const [, kib] = /^VmHWM:\s+(\d+) kB$/m.exec(procFile(pid, 'status')) ?? [];
  return Number(kib ?? 0) * 1024;
}

/** Returns nothing for a process that has ended. */
function procFile(pid: number, name: string): string {
  try {
    return readFileSync(`/proc/${pid}/${name}`, 'utf8');
  } catch {
    return '';
  }
}
