import { NicheError, messageOf } from '../../core/errors.ts';
import { isErrno } from '../../core/util/errno.ts';

/**
 * Returns the working directory of this process.
 *
 * @throws NicheError `usage` when it was deleted or cannot be reached
 */
export function workingDirectory(): string {
  try {
    return process.cwd();
  } catch (cause) {
    const why = isErrno(cause, 'ENOENT') ? 'it was deleted' : messageOf(cause);
    throw new NicheError('usage', `cannot find the working directory: ${why}`, {
      hint: 'cd to a directory that exists',
      cause,
    });
  }
}
