import { lstatSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { isNicheError, quote, type NicheError } from '../../errors.ts';
import { throwIfAborted } from '../../util/abort.ts';
import type { ListedObject, RequestOptions } from '../bucket.ts';
import { fileError } from './errors.ts';
import { openFolder, splitKey, type OpenFolder } from './folder.ts';
import {
  assertLocation,
  findLink,
  isAbsence,
  isReserved,
  objectInfo,
  type FileRoot,
} from './root.ts';
import { isErrno } from '../../util/errno.ts';
import { assertPrefix, isKey } from '../keys.ts';

/** Files read between two turns of the event loop. */
const statsAtOnce = 256;

/**
 * Implements {@link Bucket.list} for a directory. Left out are files that vanish meanwhile, links and
 * special files, and what another user of a shared directory made unreadable: nobody may stop the
 * listing of what others stored.
 *
 * @throws NicheError `invalid-key`, `storage-denied`, `storage-unavailable`, `aborted`
 */
export async function* listFiles(
  root: FileRoot,
  prefix: string,
  options?: RequestOptions,
): AsyncGenerator<ListedObject, void, undefined> {
  assertPrefix(prefix);
  root.checkOnce();
  const parent = prefix.slice(0, prefix.lastIndexOf('/') + 1);
  if (parent !== '') assertLocation(root, `${parent}x`);
  yield* walk(root, parent, prefix, options?.signal);
  // An empty or short listing may mean that the directory is gone.
  root.check();
}

async function* walk(
  root: FileRoot,
  folder: string,
  prefix: string,
  signal: AbortSignal | undefined,
): AsyncGenerator<ListedObject, void, undefined> {
  const names = await namesIn(root, folder, prefix);
  for (let next = 0; next < names.length;) {
    throwIfAborted(signal, `listing ${root.url}`);
    const batch = takeBatch(names, next);
    next += batch.length;
    const [name = ''] = batch;
    if (name.endsWith('/')) {
      yield* walk(root, name, prefix, signal);
    } else {
      yield* infosOf(root, folder, batch);
      if (next < names.length) await setImmediate();
    }
  }
}

/** Returns the next folder alone, or the next files up to a folder. */
function takeBatch(names: readonly string[], start: number): readonly string[] {
  if (names[start]?.endsWith('/')) return names.slice(start, start + 1);
  const batch = names.slice(start, start + statsAtOnce);
  const folder = batch.findIndex((name) => name.endsWith('/'));
  return folder === -1 ? batch : batch.slice(0, folder);
}

/**
 * Returns the keys in one folder; those of folders end in `/`, so that they sort as the keys below
 * them do (`a-b` is before `a/b`). Keys are ASCII, so a string's order is that of its bytes.
 */
async function namesIn(root: FileRoot, folder: string, prefix: string): Promise<string[]> {
  const names: string[] = [];
  const opened = openListed(root, folder);
  if (opened === null) return [];
  try {
    for (const entry of await readdir(opened.path, { withFileTypes: true })) {
      const key = folder + entry.name;
      const name = entry.isDirectory() ? `${key}/` : key;
      const isWanted = name.startsWith(prefix) || (name.endsWith('/') && prefix.startsWith(name));
      if (isWanted && isKey(key) && !isReserved(key)) names.push(name);
    }
  } catch (error) {
    if (!isLeftOut(root, folder, error)) throw listingError(root, folder, error);
  } finally {
    opened.close();
  }
  return names.sort();
}

/** Returns the objects of some keys in one folder. */
function infosOf(root: FileRoot, folder: string, keys: readonly string[]): ListedObject[] {
  const infos: ListedObject[] = [];
  const opened = openListed(root, folder);
  if (opened === null) return [];
  try {
    for (const key of keys) {
      const path = join(opened.path, key.slice(folder.length));
      const found = lstatSync(path, { bigint: true, throwIfNoEntry: false });
      const info = found?.isFile() === true ? objectInfo(root, key, found) : null;
      if (info !== null) infos.push(info);
    }
  } catch (error) {
    if (!isLeftOut(root, folder, error)) throw listingError(root, folder, error);
  } finally {
    opened.close();
  }
  return infos;
}

/**
 * @param folder empty, or with a `/` at its end
 * @returns null for a folder whose objects are left out
 */
function openListed(root: FileRoot, folder: string): OpenFolder | null {
  try {
    return openFolder(root, folder.slice(0, -1));
  } catch (error) {
    if (isLeftOut(root, folder, error)) return null;
    throw listingError(root, folder, error);
  }
}

/** Whether `error` comes of what is left out. */
function isLeftOut(root: FileRoot, folder: string, error: unknown): boolean {
  if (isAbsence(error)) return true;
  if (isNicheError(error, 'storage-denied') && findLink(root, folder.slice(0, -1)) !== null)
    return true;
  return isErrno(error, 'EACCES', 'EPERM') && isOfStranger(root, folder);
}

function isOfStranger(root: FileRoot, folder: string): boolean {
  // A folder in a closed one belongs to the user who closed that.
  for (let each = folder.slice(0, -1); each !== ''; each = splitKey(each).folder) {
    try {
      const found = lstatSync(join(root.path, each), { throwIfNoEntry: false });
      if (found !== undefined) return !root.isTrusted(found.uid);
    } catch (error) {
      if (!isErrno(error, 'EACCES')) throw error;
    }
  }
  return false;
}

function listingError(root: FileRoot, folder: string, error: unknown): NicheError {
  return fileError(error, `listing ${quote(folder)} in ${root.url}`);
}
