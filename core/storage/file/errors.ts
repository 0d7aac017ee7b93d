import { getSystemErrorMessage } from 'node:util';
import { isNicheError, messageOf, NicheError, type NicheErrorCode } from '../../errors.ts';
import { errnoOf } from '../../util/errno.ts';

/** Everything else is `storage-unavailable`: a disk or a server that fails may recover. */
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
  ELOOP: 'symbolic links in a bucket are not followed; mount the directory there instead',
  EPERM: needsLinks,
  ENOTSUP: needsLinks,
  ENOSYS: needsLinks,
  ENOTDIR: 'an object is in the way of a folder of that name',
  EISDIR: 'a folder is in the way of an object of that name',
  ENOTEMPTY: 'a folder is in the way of an object of that name',
};

/**
 * An operating system's error in the words of the Bucket contract.
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

/** Without the path in Node's own message: it is a file's, where the reader knows keys. */
function describe(error: unknown): string {
  const { errno, code } = error as NodeJS.ErrnoException;
  if (errno === undefined || code === undefined) return messageOf(error);
  return `${getSystemErrorMessage(errno)} (${code})`;
}
