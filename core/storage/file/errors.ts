import { getSystemErrorMessage } from 'node:util';
import { isNicheError, messageOf, NicheError, type NicheErrorCode } from '../../errors.ts';
import { errnoOf } from '../../util/errno.ts';

/** Every other error is `storage-unavailable`: a failing disk or server may recover. */
const codes: Readonly<Record<string, NicheErrorCode>> = {
  EACCES: 'storage-denied',
  EPERM: 'storage-denied',
  EROFS: 'storage-denied',
  ELOOP: 'storage-denied',
  ENOSPC: 'storage-full',
  EDQUOT: 'storage-full',
  ENAMETOOLONG: 'invalid-key',
  ENOTDIR: 'invalid-key',
  EISDIR: 'invalid-key',
  ENOTEMPTY: 'invalid-key',
};

const needsLinks = 'a bucket in a directory needs a file system with hard links';

const hints: Readonly<Record<string, string>> = {
  ELOOP: 'niche follows no symbolic links in a bucket; mount the directory there instead',
  EPERM: needsLinks,
  ENOTSUP: needsLinks,
  ENOSYS: needsLinks,
  ENOTDIR: 'an object has the name of a folder that is needed',
  EISDIR: 'a folder has the name of the object',
  ENOTEMPTY: 'a folder has the name of the object',
};

/**
 * Returns an operating system's error as the Bucket contract describes it.
 *
 * @param action what failed, on what: `reading "nar/…" in file:///…`
 */
export function fileError(error: unknown, action: string): NicheError {
  if (isNicheError(error)) return error;
  const name = errnoOf(error);
  const hint = name === undefined ? undefined : hints[name];
  return new NicheError(
    (name === undefined ? undefined : codes[name]) ?? 'storage-unavailable',
    `${action} failed: ${describe(error)}`,
    { cause: error, ...(hint === undefined ? {} : { hint }) },
  );
}

/** Describes the error without Node's own message, which has a path where users know keys. */
function describe(error: unknown): string {
  const { errno, code } = error as NodeJS.ErrnoException;
  if (errno === undefined || code === undefined) return messageOf(error);
  return `${getSystemErrorMessage(errno)} (${code})`;
}
