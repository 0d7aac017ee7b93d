import { randomUUID } from 'node:crypto';
import { lstat, mkdir, open, readFile, readlink, rename, rm, unlink } from 'node:fs/promises';
import path from 'node:path';

import { NicheError, messageOf } from '../../core/errors.ts';
import { isErrno } from '../../core/util/errno.ts';
import { homeOf, nonEmpty } from '../process/environment.ts';
import type { Environment } from '../process/environment.ts';

/** A configuration file as it is now. */
export interface ConfFile {
  readonly path: string;
  /** A character a byte; null when there is no file. */
  readonly text: string | null;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

/**
 * The nix.conf of the user that Nix reads first; null when the environment tells Nix to read none.
 */
export function userConfPath(env: Environment): string | null {
  const listed = env['NIX_USER_CONF_FILES'];
  if (listed !== undefined) return listed.split(':').find((file) => file !== '') ?? null;
  const configHome = nonEmpty(env['XDG_CONFIG_HOME']) ?? path.join(homeOf(env), '.config');
  return path.join(configHome, 'nix', 'nix.conf');
}

/** What the symbolic link `file` points to; null when it is none. */
export async function linkTarget(file: string): Promise<string | null> {
  try {
    return await readlink(file);
  } catch (error) {
    if (isErrno(error, 'EINVAL', 'ENOENT', 'ENOTDIR', 'EACCES')) return null;
    throw error;
  }
}

/** @throws NicheError `storage-denied` when it cannot be read */
export async function readConfFile(file: string): Promise<ConfFile> {
  try {
    const { mode, uid, gid } = await lstat(file);
    return { path: file, text: await readFile(file, 'latin1'), mode: mode & 0o7777, uid, gid };
  } catch (cause) {
    if (isErrno(cause, 'ENOENT')) {
      return { path: file, text: null, mode: 0o644, uid: -1, gid: -1 };
    }
    throw new NicheError('storage-denied', `cannot read ${file}: ${messageOf(cause)}`, { cause });
  }
}

/**
 * Puts `text` in the place of what `file` had, at once and with its mode; null deletes the file.
 *
 * @throws NicheError `storage-denied` when it cannot be written: it is as it was then
 */
export async function replaceConfFile(file: ConfFile, text: string | null): Promise<void> {
  const temporary = path.join(path.dirname(file.path), `.nix.conf.niche-${randomUUID()}`);
  try {
    if (text === null) {
      await unlink(file.path);
      return;
    }
    await mkdir(path.dirname(file.path), { recursive: true });
    const handle = await open(temporary, 'wx', 0o600);
    try {
      await handle.writeFile(text, 'latin1');
      // Root that edits for another user must not take the file from them.
      if (file.text !== null && process.getuid?.() === 0) await handle.chown(file.uid, file.gid);
      await handle.chmod(file.mode);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, file.path);
  } catch (cause) {
    await rm(temporary, { force: true });
    throw new NicheError('storage-denied', `cannot write ${file.path}: ${messageOf(cause)}`, {
      cause,
    });
  }
}
