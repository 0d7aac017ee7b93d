import { mkdirSync, statSync } from 'node:fs';
import path from 'node:path';

/**
 * Creates a folder and the missing folders above it. An existing folder is no failure.
 *
 * Replaces `mkdir` with `recursive`, which in Node never returns where a file system refuses a new
 * folder with ENOENT, as /proc does.
 *
 * @param mode of each new folder. @default 0o777, less the umask
 * @throws the system's error, such as EACCES, ENOENT, ENOTDIR or EROFS
 */
export function makeFolders(folder: string, mode = 0o777): void {
  const whole = path.resolve(folder);
  if (isFolder(whole)) return;
  const parent = path.dirname(whole);
  if (parent !== whole) makeFolders(parent, mode);
  try {
    mkdirSync(whole, mode);
  } catch (error) {
    // Another process may have created it meanwhile.
    if (!isFolder(whole)) throw error;
  }
}

function isFolder(file: string): boolean {
  return statSync(file, { throwIfNoEntry: false })?.isDirectory() === true;
}
