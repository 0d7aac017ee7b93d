import { randomUUID } from 'node:crypto';
import { lstat, open, readFile, readlink, rename, rm, unlink } from 'node:fs/promises';
import path from 'node:path';

import { NicheError, messageOf, quote } from '../../core/errors.ts';
import { isErrno } from '../../core/util/errno.ts';
import { makeFolders } from '../../core/util/folders.ts';
import { homeOf, nonEmpty } from '../process/environment.ts';
import type { Environment } from '../process/environment.ts';

/** A configuration file and its contents. */
export interface ConfFile {
  readonly path: string;
  /** Decoded as `latin1`, one character per byte; null when there is no file. */
  readonly text: string | null;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

/** Returns the user's nix.conf that Nix reads first; null when the environment disables it. */
export function userConfPath(env: Environment): string | null {
  const listed = env['NIX_USER_CONF_FILES'];
  if (listed !== undefined) return listed.split(':').find((file) => file !== '') ?? null;
  const configHome = nonEmpty(env['XDG_CONFIG_HOME']) ?? path.join(homeOf(env), '.config');
  return path.join(configHome, 'nix', 'nix.conf');
}

/** Returns the target of the symbolic link `file`; null when it is not a link. */
export async function linkTarget(file: string): Promise<string | null> {
  try {
    return await readlink(file);
  } catch (error) {
    if (isErrno(error, 'EINVAL', 'ENOENT', 'ENOTDIR', 'EACCES')) return null;
    throw error;
  }
}

/**
 * Reads a configuration file, which may be missing.
 *
 * @throws NicheError `storage-denied`
 */
export async function readConfFile(file: string): Promise<ConfFile> {
  try {
    const { mode, uid, gid } = await lstat(file);
    return { path: file, text: await readFile(file, 'latin1'), mode: mode & 0o7777, uid, gid };
  } catch (cause) {
    if (isErrno(cause, 'ENOENT', 'ENOTDIR')) {
      return { path: file, text: null, mode: 0o644, uid: -1, gid: -1 };
    }
    throw new NicheError('storage-denied', `cannot read ${quote(file)}: ${messageOf(cause)}`, {
      cause,
    });
  }
}

/**
 * Replaces the contents of `file` atomically and keeps its mode; null deletes the file.
 *
 * @throws NicheError `storage-denied`; the file is then unchanged
 */
export async function replaceConfFile(file: ConfFile, text: string | null): Promise<void> {
  const temporary = path.join(path.dirname(file.path), `.nix.conf.niche-${randomUUID()}`);
  try {
    if (text === null) {
      await unlink(file.path);
      return;
    }
    makeFolders(path.dirname(file.path));
    const handle = await open(temporary, 'wx', 0o600);
    try {
      await handle.writeFile(text, 'latin1');
      // Root may edit the file of another user, who must remain its owner.
      if (file.text !== null && process.getuid?.() === 0) await handle.chown(file.uid, file.gid);
      await handle.chmod(file.mode);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, file.path);
  } catch (cause) {
    // The first failure is the one to report.
    await rm(temporary, { force: true }).catch(() => undefined);
    throw new NicheError(
      'storage-denied',
      `cannot write ${quote(file.path)}: ${messageOf(cause)}`,
      {
        cause,
      },
    );
  }
}
