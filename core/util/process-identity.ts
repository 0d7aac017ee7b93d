import { execFileSync } from 'node:child_process';
import { readFileSync, readlinkSync } from 'node:fs';
import { hostname } from 'node:os';

/** Identifies a process, also against a later one with the same process id. */
export interface ProcessIdentity {
  readonly pid: number;
  /** When it started, in the system's format; empty when it had ended already. */
  readonly started: string;
  /** The machine, its boot and the container in which `pid` is valid. */
  readonly scope: string;
}

export function identifyProcess(pid: number): ProcessIdentity {
  return { pid, started: startOf(pid), scope: scope() };
}

/** Returns whether the process still runs; undefined for one on another machine or container. */
export function isAlive(identity: ProcessIdentity): boolean | undefined {
  const { pid, started } = identity;
  if (identity.scope !== scope()) return undefined;
  return started !== '' && startOf(pid) === started;
}

function startOf(pid: number): string {
  try {
    if (process.platform === 'linux') {
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
      // proc(5): field 2, the name in parentheses, may contain anything; field 22 is the start.
      const [state = '', ...fields] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      // A zombie has ended, even if its parent has not waited for it yet.
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
