import { lstatSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { quote } from '../../errors.ts';
import { throwIfAborted } from '../../util/abort.ts';
import type { ListedObject, RequestOptions } from '../bucket.ts';
import { fileError } from './errors.ts';
import { isAbsence, isReserved, locate, objectInfo, type FileRoot } from './root.ts';
import { assertPrefix, isKey } from '../keys.ts';

/** Files read between two turns of the event loop. */
const statsAtOnce = 256;

/**
 * Implements {@link Bucket.list} for a directory. Files that vanish meanwhile are left out.
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
  if (parent !== '') locate(root, `${parent}x`);
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
      const found = batch.map((key) => infoOf(root, key));
      yield* found.filter((info) => info !== null);
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
  try {
    for (const entry of await readdir(join(root.path, folder), { withFileTypes: true })) {
      const key = folder + entry.name;
      const name = entry.isDirectory() ? `${key}/` : key;
      const isWanted = name.startsWith(prefix) || (name.endsWith('/') && prefix.startsWith(name));
      if (isWanted && isKey(key) && !isReserved(key)) names.push(name);
    }
  } catch (error) {
    if (!isAbsence(error)) throw fileError(error, `listing ${quote(folder)} in ${root.url}`);
  }
  return names.sort();
}

function infoOf(root: FileRoot, key: string): ListedObject | null {
  try {
    return objectInfo(root, key, lstatSync(join(root.path, key), { bigint: true }));
  } catch (error) {
    if (isAbsence(error)) return null;
    throw fileError(error, `listing ${quote(key)} in ${root.url}`);
  }
}
