import { closeSync, constants, fstatSync, lstatSync, openSync, rmdirSync } from 'node:fs';
import { unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { quote } from '../../errors.ts';
import { throwIfAborted } from '../../util/abort.ts';
import type { Bucket, GetOptions, PutOptions, PutOutcome, StoredObject } from '../bucket.ts';
import { assertDigest } from '../digest.ts';
import { fileError } from './errors.ts';
import { isErrno } from '../../util/errno.ts';
import { inFolder, openFolder, splitKey, statObject } from './folder.ts';
import { createInOrder, putInGroup } from './group-commit.ts';
import { listFiles } from './list.ts';
import { withLock } from './lock.ts';
import { readBody } from './read.ts';
import { assertLocation, fileRoot, isAbsence, locate, objectInfo, type FileRoot } from './root.ts';
import { replaceFile } from './replace.ts';
import {
  discardQuietly,
  publish,
  smallBytes,
  sweepTemporaries,
  writeTemporary,
} from './temporary.ts';
import { uploadFile } from './upload.ts';
import { assertKey } from '../keys.ts';
import { clipRange } from '../range.ts';

/* eslint-disable @typescript-eslint/require-await -- a failure must reject, although the call is synchronous */

/** Without O_NONBLOCK, opening a named pipe would wait for a writer forever. */
const readFlags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/** Concurrent deletions; more would only queue for the thread pool. */
const deletesAtOnce = 16;

/**
 * Opens a bucket in a directory, which has to exist. Each object is the file of its key; metadata
 * (`contentType` and `cacheControl`) is not kept. Any number of processes may share the directory. It
 * needs a file system with hard links, and refuses symbolic links. A written object is on the disk
 * when the call returns, unless `durable` is false.
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
      throwIfAborted(options?.signal, `checking ${quote(key)} in ${root.url}`);
      assertLocation(root, key);
      return statObject(root, key);
    },
    async get(key, options) {
      return getFile(root, key, options);
    },
    put: (key, body, options) => putFile(root, key, body, options),
    async createInOrder(objects, options) {
      const action = `writing ${objects.length} objects in ${root.url}`;
      throwIfAborted(options?.signal, action);
      const located = objects.map(({ key, body }) => ({ key, body, path: locate(root, key) }));
      try {
        return await createInOrder(root, located);
      } catch (error) {
        throw fileError(error, action);
      }
    },
    async replace(key, body, etag, options) {
      throwIfAborted(options?.signal, `replacing ${quote(key)} in ${root.url}`);
      return replaceFile(root, key, locate(root, key), body, etag, options);
    },
    async upload(key, options) {
      throwIfAborted(options?.signal, `writing ${quote(key)} in ${root.url}`);
      return uploadFile(root, key, locate(root, key), options?.signal);
    },
    list: (prefix, options) => listFiles(root, prefix, options),
    async delete(keys, options) {
      keys.forEach(assertKey);
      for (let next = 0; next < keys.length; next += deletesAtOnce) {
        throwIfAborted(options?.signal, `deleting in ${root.url}`);
        const batch = keys.slice(next, next + deletesAtOnce);
        await Promise.all(batch.map((key) => deleteFile(root, key, options?.signal)));
      }
      root.check();
    },
    async sweepUploads(_, olderThan) {
      return sweepTemporaries(root, olderThan);
    },
  };
}

function getFile(
  root: FileRoot,
  key: string,
  options: GetOptions | undefined,
): StoredObject | null {
  const action = `reading ${quote(key)} in ${root.url}`;
  throwIfAborted(options?.signal, action);
  assertLocation(root, key);
  try {
    const fd = inFolder(root, key, (path) => openSync(path, readFlags));
    try {
      const info = objectInfo(root, key, fstatSync(fd, { bigint: true }));
      if (info !== null) {
        const range = clipRange(options?.range, info.size);
        return { info, body: readBody(fd, range, action, options) };
      }
    } catch (error) {
      closeSync(fd);
      throw error;
    }
    closeSync(fd);
  } catch (error) {
    if (!isAbsence(error)) throw fileError(error, action);
  }
  root.check();
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
  const path = locate(root, key);
  if (options?.sha256 !== undefined) assertDigest(body, options.sha256, action);
  const { ifAbsent = false, durable = true } = options ?? {};
  try {
    if (body.length <= smallBytes) {
      const outcome = await putInGroup(root, { key, path, body, ifAbsent, durable });
      throwIfAborted(options?.signal, action);
      return outcome;
    }
    const temporary = await writeTemporary(root, body);
    try {
      throwIfAborted(options?.signal, action);
      return await publish(root, temporary, key, path, ifAbsent);
    } catch (error) {
      discardQuietly(temporary);
      throw error;
    }
  } catch (error) {
    throw fileError(error, action);
  }
}

async function deleteFile(
  root: FileRoot,
  key: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  assertLocation(root, key);
  const action = `deleting ${quote(key)} in ${root.url}`;
  const { folder, name } = splitKey(key);
  try {
    if (isFolderOrGone(root, key)) return;
    await withLock({ root, key, action, signal }, async () => {
      const opened = openFolder(root, folder);
      try {
        // On the thread pool: freeing the blocks of a large file takes a while.
        await unlink(join(opened.path, name));
      } finally {
        opened.close();
      }
    });
  } catch (error) {
    // Something else may be there by now. Some systems report EPERM for a folder.
    if (isErrno(error, 'ENOENT', 'ENOTDIR', 'EISDIR', 'EPERM') && isFolderOrGone(root, key)) return;
    throw fileError(error, action);
  }
  pruneFolders(root, folder);
}

/** A folder is no object. */
function isFolderOrGone(root: FileRoot, key: string): boolean {
  try {
    return inFolder(root, key, (path) => lstatSync(path).isDirectory());
  } catch (error) {
    if (isAbsence(error)) return true;
    throw error;
  }
}

/** Removes folders that have become empty; a writer that loses its folder creates it again. */
function pruneFolders(root: FileRoot, lowest: string): void {
  for (let folder = lowest; folder !== ''; folder = splitKey(folder).folder) {
    try {
      inFolder(root, folder, rmdirSync);
    } catch {
      // Not empty, or not ours to remove: the object itself is gone.
      return;
    }
  }
}
