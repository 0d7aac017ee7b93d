import { dirname } from 'node:path';
import { quote } from '../../errors.ts';
import type { ObjectOptions, ReplaceOutcome } from '../bucket.ts';
import { fileError } from './errors.ts';
import { statObject } from './folder.ts';
import { syncFolder } from './fsync.ts';
import { withLock } from './lock.ts';
import type { FileRoot } from './root.ts';
import {
  discard,
  discardQuietly,
  revealUnlocked,
  syncTemporary,
  writeTemporary,
} from './temporary.ts';

/**
 * Implements {@link Bucket.replace} for a directory.
 *
 * @param path the file of `key`
 * @throws NicheError `storage-unavailable`, `storage-denied`, `storage-full`, `aborted`
 */
export async function replaceFile(
  root: FileRoot,
  key: string,
  path: string,
  body: Uint8Array,
  etag: string,
  options: ObjectOptions | undefined,
): Promise<ReplaceOutcome> {
  const action = `replacing ${quote(key)} in ${root.url}`;
  try {
    const temporary = await writeTemporary(root, body);
    try {
      // Outside the lock: a disk may take longer than other writers wait.
      await syncTemporary(temporary);
      const isReplaced = await withLock(
        { root, key, action, signal: options?.signal },
        async () => {
          if (statObject(root, key)?.etag !== etag) return false;
          await revealUnlocked(root, temporary, key, false);
          return true;
        },
      );
      if (isReplaced) await syncFolder(dirname(path));
      else discard(temporary);
      return isReplaced ? 'replaced' : 'changed';
    } catch (error) {
      discardQuietly(temporary);
      throw error;
    }
  } catch (error) {
    throw fileError(error, action);
  }
}
