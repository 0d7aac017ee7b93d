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

import { isNicheError, messageOf, NicheError, quote } from '../../core/errors.ts';
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

/**
 * Returns where a session folder may be created, best first. A root daemon can enter all of them, unless
 * it runs in a mount namespace of its own. They are absolute, since a daemon has another working folder.
 */
export function sessionBases(env: Environment, cwd: string): readonly string[] {
  const cacheHome = nonEmpty(env['XDG_CACHE_HOME']) ?? path.join(homeOf(env), '.cache');
  const bases = [nonEmpty(env['TMPDIR']) ?? '/tmp', '/tmp', '/var/tmp', cacheHome];
  return [...new Set(bases.map((base) => path.resolve(cwd, base)))];
}

/**
 * Creates a folder with mode 0700 in `base`, whose path is valid in nix.conf. Removes the folders that
 * killed sessions of this user left there.
 *
 * @throws NicheError `usage` when `base` is not suitable
 */
export function makeSessionFolder(base: string): SessionFolder {
  const refused = (why: string): NicheError =>
    new NicheError('usage', `cannot create a session folder in ${quote(base)}: ${why}`);
  if (!isNixConfigValue(base)) throw refused('its path is not valid in nix.conf');
  removeStaleSessions(base);
  let folder: string | undefined;
  try {
    folder = mkdtempSync(path.join(base, folderPrefix));
    return ownFolder(folder);
  } catch (error) {
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
    throw refused(messageOf(error));
  }
}

/** Creates a folder in the first suitable one of `bases`; null when there is none. */
export function firstSessionFolder(bases: readonly string[]): SessionFolder | null {
  for (const base of bases) {
    try {
      return makeSessionFolder(base);
    } catch (error) {
      if (!isNicheError(error, 'usage')) throw error;
    }
  }
  return null;
}

function ownFolder(folder: string): SessionFolder {
  const owners: ProcessIdentity[] = [identifyProcess(process.pid)];
  const record = (): void => {
    writeFileSync(path.join(folder, ownersFile), JSON.stringify(owners));
  };
  record();
  return {
    folder,
    keepFor: (pid) => {
      owners.push(identifyProcess(pid));
      record();
    },
    remove: () => {
      rmSync(folder, { recursive: true, force: true });
    },
  };
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
