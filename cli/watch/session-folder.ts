import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  lstatSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';

import { messageOf, NicheError } from '../../core/errors.ts';
import { homeOf, nonEmpty, type Environment } from '../environment.ts';
import { isNixConfigValue } from '../nix/nix-config.ts';
import { identifyProcess, isAlive, type ProcessIdentity } from './process-identity.ts';

/** A private folder for one run of nix, which nix's own processes work in too. */
export interface SessionFolder {
  readonly folder: string;
  /** Keeps the folder for as long as the process `pid` lives as well, even if niche is killed. */
  readonly keepFor: (pid: number) => void;
  readonly remove: () => void;
}

const folderPrefix = 'niche-session-';
const ownersFile = 'owners';
/** A folder whose owners cannot be judged from here (another container's) is left for a week. */
const maxForeignAgeMs = 7 * 24 * 3600 * 1000;

/** Where session folders may lie, best first: a daemon that runs as root can enter all of them. */
export function sessionBases(env: Environment): readonly string[] {
  const cacheHome = nonEmpty(env['XDG_CACHE_HOME']) ?? path.join(homeOf(env), '.cache');
  const bases = [nonEmpty(env['TMPDIR']) ?? '/tmp', '/tmp', '/var/tmp', cacheHome];
  return [...new Set(bases)];
}

/**
 * Makes a folder with mode 0700 in the first of `bases` that lets programs be executed and whose
 * name nix.conf can carry. Removes the folders of this user's sessions that were killed.
 *
 * @throws NicheError `usage` when none of `bases` will do
 */
export function makeSessionFolder(bases: readonly string[]): SessionFolder {
  const refusals: string[] = [];
  for (const base of bases) {
    removeStaleSessions(base);
    const refusal = isNixConfigValue(base) ? undefined : 'nix.conf cannot name it';
    const made = refusal ?? tryMake(base);
    if (typeof made !== 'string') return made;
    refusals.push(`${base}: ${made}`);
  }
  throw new NicheError(
    'usage',
    `cannot make a folder for nix's post-build hook; tried ${refusals.join('; ')}`,
    { hint: 'set TMPDIR to a folder that can be written and executed in' },
  );
}

/** The session folder, or why there cannot be one in `base`. */
function tryMake(base: string): SessionFolder | string {
  let folder: string;
  try {
    folder = mkdtempSync(path.join(base, folderPrefix));
  } catch (error) {
    return messageOf(error);
  }
  const owners: ProcessIdentity[] = [identifyProcess(process.pid)];
  const record = (): void => {
    writeFileSync(path.join(folder, ownersFile), JSON.stringify(owners));
  };
  const remove = (): void => {
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    record();
    if (canExecuteIn(folder)) {
      const keepFor = (pid: number): void => {
        owners.push(identifyProcess(pid));
        record();
      };
      return { folder, keepFor, remove };
    }
    remove();
    return 'programs cannot be executed there';
  } catch (error) {
    remove();
    return messageOf(error);
  }
}

/** Asked by doing it: mount options, ACLs and security modules all have a say. */
function canExecuteIn(folder: string): boolean {
  const answer = randomBytes(8).toString('hex');
  const probe = path.join(folder, 'probe');
  writeFileSync(probe, `#!/bin/sh\necho ${answer}\n`, { mode: 0o700 });
  const { status, stdout } = spawnSync(probe, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  rmSync(probe);
  return status === 0 && stdout.trim() === answer;
}

function removeStaleSessions(base: string): void {
  let names: string[];
  try {
    names = readdirSync(base).filter((name) => name.startsWith(folderPrefix));
  } catch {
    return;
  }
  for (const name of names) {
    const folder = path.join(base, name);
    try {
      const { uid } = lstatSync(folder);
      if (uid === process.getuid?.() && isStale(folder)) rmSync(folder, { recursive: true });
    } catch {
      // Another niche removes it, or it cannot be removed: it is a few hundred bytes, so leave it.
    }
  }
}

function isStale(folder: string): boolean {
  const ageMs = Date.now() - statSync(folder).mtimeMs;
  let owners: readonly ProcessIdentity[];
  try {
    owners = JSON.parse(readFileSync(path.join(folder, ownersFile), 'utf8')) as ProcessIdentity[];
  } catch {
    // Killed before it was written, unless it is about to be.
    return ageMs >= maxForeignAgeMs;
  }
  return owners.every((owner) => !(isAlive(owner) ?? ageMs < maxForeignAgeMs));
}
