import { constants } from 'node:fs';
import { lstat, open, rmdir, unlink, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { quote } from '../errors.ts';
import { throwIfAborted } from './aborted.ts';
import type { Bucket, GetOptions, PutOptions, PutOutcome, StoredObject } from './bucket.ts';
import { assertDigest } from './digest.ts';
import { fileError, isErrno } from './file-errors.ts';
import { listFiles } from './file-list.ts';
import { readBody } from './file-read.ts';
import { fileRoot, isAbsence, locate, objectInfo, statObject, type FileRoot } from './file-root.ts';
import { replaceFile } from './file-replace.ts';
import { createTemporary, discard, publish, sweepTemporaries, writeAll } from './file-temporary.ts';
import { uploadFile } from './file-upload.ts';
import { assertKey } from './keys.ts';
import { clipRange } from './range.ts';

/** Deletions under way together; more only queue for the thread pool. */
const deletesAtOnce = 16;

/**
 * A bucket in a directory, which has to exist: each object is the file of its key, with no metadata
 * beside it (`contentType` and `cacheControl` are not kept). Any number of processes may share it.
 * It needs a file system with hard links; symbolic links below the directory are refused. What is
 * published is on the disk when the call returns.
 *
 * @param directory an absolute path
 * @throws NicheError `invalid-url` for a path that is not absolute
 */
export function openFileBucket(directory: string): Bucket {
  const root = fileRoot(directory);
  return {
    url: root.url,
    capabilities: { conditionalPut: true, conditionalComplete: true, conditionalReplace: true },
    async head(key, options) {
      throwIfAborted(options?.signal, `looking for ${quote(key)} in ${root.url}`);
      return statObject(root, key, await locate(root, key));
    },
    get: (key, options) => getFile(root, key, options),
    put: (key, body, options) => putFile(root, key, body, options),
    async replace(key, body, etag, options) {
      throwIfAborted(options?.signal, `replacing ${quote(key)} in ${root.url}`);
      return replaceFile(root, key, await locate(root, key), body, etag, options);
    },
    async upload(key, options) {
      throwIfAborted(options?.signal, `writing ${quote(key)} in ${root.url}`);
      return uploadFile(root, key, await locate(root, key), options?.signal);
    },
    list: (prefix, options) => listFiles(root, prefix, options),
    async delete(keys, options) {
      keys.forEach(assertKey);
      for (let next = 0; next < keys.length; next += deletesAtOnce) {
        throwIfAborted(options?.signal, `deleting in ${root.url}`);
        const batch = keys.slice(next, next + deletesAtOnce);
        await Promise.all(batch.map((key) => deleteFile(root, key)));
      }
      await root.check();
    },
    sweepUploads: (olderThan) => sweepTemporaries(root, olderThan),
  };
}

async function getFile(
  root: FileRoot,
  key: string,
  options: GetOptions | undefined,
): Promise<StoredObject | null> {
  const action = `reading ${quote(key)} in ${root.url}`;
  throwIfAborted(options?.signal, action);
  const path = await locate(root, key);
  let handle: FileHandle | undefined;
  try {
    // Without O_NONBLOCK, opening a named pipe would wait for a writer for ever.
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
    handle = await open(path, flags);
    const info = objectInfo(root, key, await handle.stat({ bigint: true }));
    if (info !== null) {
      const range = clipRange(options?.range, info.size);
      return { info, body: readBody(handle, range, action, options?.signal) };
    }
    await handle.close();
  } catch (error) {
    await handle?.close();
    if (!isAbsence(error)) throw fileError(error, action);
  }
  await root.check();
  return null;
}

async function putFile(
  root: FileRoot,
  key: string,
  body: Uint8Array,
  options: PutOptions | undefined,
): Promise<PutOutcome> {
  const action = `writing ${quote(key)} in ${root.url}`;
  throwIfAborted(options?.signal, action);
  const path = await locate(root, key);
  if (options?.sha256 !== undefined) assertDigest(body, options.sha256, action);
  const ifAbsent = options?.ifAbsent === true;
  try {
    const temporary = await createTemporary(root);
    try {
      await writeAll(temporary.handle, body);
      throwIfAborted(options?.signal, action);
      return await publish(root, temporary, key, path, ifAbsent);
    } catch (error) {
      // The first failure is the one to tell; a sweep removes what is left.
      await discard(temporary).catch(() => undefined);
      throw error;
    }
  } catch (error) {
    throw fileError(error, action);
  }
}

async function deleteFile(root: FileRoot, key: string): Promise<void> {
  const path = await locate(root, key);
  try {
    await unlink(path);
  } catch (error) {
    // A folder is no object; EPERM is how some systems answer for one.
    if (isAbsence(error) || isErrno(error, 'EISDIR')) return;
    if (isErrno(error, 'EPERM') && (await isFolderOrGone(path))) return;
    throw fileError(error, `deleting ${quote(key)} in ${root.url}`);
  }
  await pruneFolders(root, dirname(path));
}

async function isFolderOrGone(path: string): Promise<boolean> {
  try {
    return (await lstat(path)).isDirectory();
  } catch (error) {
    return isAbsence(error);
  }
}

/** Removes folders that have become empty; a writer that loses its folder makes it again. */
async function pruneFolders(root: FileRoot, folder: string): Promise<void> {
  for (let path = folder; path !== root.path; path = dirname(path)) {
    try {
      await rmdir(path);
    } catch {
      // Not empty, or not ours to remove: the object is gone, which is what was asked.
      return;
    }
  }
}
