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
import { homeOf, nonEmpty, type Environment } from '../process/environment.ts';
import { isNixConfigValue } from '../nix/nix-config.ts';
import {
  identifyProcess,
  isAlive,
  type ProcessIdentity,
} from '../../core/util/process-identity.ts';

/** A private folder for one run of Nix. */
export interface SessionFolder {
  readonly folder: string;
  /** Keeps the folder while the process `pid` runs, even if niche is killed. */
  readonly keepFor: (pid: number) => void;
  readonly remove: () => void;
}

const folderPrefix = 'niche-session-';
const ownersFile = 'owners';
/** A folder whose owners cannot be checked, as those in another container, is kept for a week. */
const maxForeignAgeMs = 7 * 24 * 3600 * 1000;

/** Returns where a session folder may be created, best first. A root daemon can enter all of them. */
export function sessionBases(env: Environment): readonly string[] {
  const cacheHome = nonEmpty(env['XDG_CACHE_HOME']) ?? path.join(homeOf(env), '.cache');
  const bases = [nonEmpty(env['TMPDIR']) ?? '/tmp', '/tmp', '/var/tmp', cacheHome];
  return [...new Set(bases)];
}

/**
 * Creates a folder with mode 0700 in the first of `bases` where programs can be executed and whose
 * path is valid in nix.conf. Removes the folders that killed sessions of this user left.
 *
 * @throws NicheError `usage` when no base is suitable
 */
export function makeSessionFolder(bases: readonly string[]): SessionFolder {
  const refusals: string[] = [];
  for (const base of bases) {
    removeStaleSessions(base);
    const refusal = isNixConfigValue(base) ? undefined : 'its path is not valid in nix.conf';
    const made = refusal ?? tryMake(base);
    if (typeof made !== 'string') return made;
    refusals.push(`${base}: ${made}`);
  }
  throw new NicheError(
    'usage',
    `cannot create a folder for the post-build hook: ${refusals.join('; ')}`,
    { hint: 'set TMPDIR to a folder in which you can write and execute files' },
  );
}

/** Returns the session folder, or why there can be none in `base`. */
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

/** Tries it, since mount options, ACLs and security modules can all prevent it. */
function canExecuteIn(folder: string): boolean {
  const nonce = randomBytes(8).toString('hex');
  const probe = path.join(folder, 'probe');
  writeFileSync(probe, `#!/bin/sh\necho ${nonce}\n`, { mode: 0o700 });
  const { status, stdout } = spawnSync(probe, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  rmSync(probe);
  return status === 0 && stdout.trim() === nonce;
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
      // Another niche removes it, or it cannot be removed. It is a few hundred bytes.
    }
  }
}

function isStale(folder: string): boolean {
  const ageMs = Date.now() - statSync(folder).mtimeMs;
  let owners: readonly ProcessIdentity[];
  try {
    owners = JSON.parse(readFileSync(path.join(folder, ownersFile), 'utf8')) as ProcessIdentity[];
  } catch {
    // Its niche was killed before it wrote the file, or is about to write it.
    return ageMs >= maxForeignAgeMs;
  }
  return owners.every((owner) => !(isAlive(owner) ?? ageMs < maxForeignAgeMs));
}
