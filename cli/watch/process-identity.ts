import { execFileSync } from 'node:child_process';
import { readFileSync, readlinkSync } from 'node:fs';
import { hostname } from 'node:os';

/** What tells a process from every other, also from a later one with the same number. */
export interface ProcessIdentity {
  readonly pid: number;
  /** When it started, in the system's own words; empty when it had ended already. */
  readonly started: string;
  /** The machine, its boot and the container that `pid` counts in. */
  readonly scope: string;
}

export function identifyProcess(pid: number): ProcessIdentity {
  return { pid, started: startOf(pid), scope: scope() };
}

/** Whether that process still runs; undefined when it is another machine's or container's. */
export function isAlive({ pid, started, scope: itsScope }: ProcessIdentity): boolean | undefined {
  if (itsScope !== scope()) return undefined;
  return started !== '' && startOf(pid) === started;
}

function startOf(pid: number): string {
  try {
    if (process.platform === 'linux') {
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
      // proc(5): field 2, the name in parentheses, may hold anything; the start is field 22.
      const [state = '', ...fields] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      // A zombie has ended, whether or not its parent has heard of it.
      return 'ZX'.includes(state) ? '' : (fields[18] ?? '');
    }
    return execFileSync('ps', ['-o', 'lstart=', '-p', String(pid)], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim();
  } catch {
    return '';
  }
}

function scope(): string {
  if (process.platform !== 'linux') return hostname();
  try {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
    return `${boot} ${readlinkSync('/proc/self/ns/pid')}`;
  } catch {
    return hostname();
  }
}
