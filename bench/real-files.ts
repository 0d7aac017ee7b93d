import { constants } from 'node:fs';
import { access, copyFile, lstat, mkdir, opendir } from 'node:fs/promises';
import { dirname, join } from 'node:path';

const mib = 2 ** 20;

/** Folders with real files, text and binaries, and their share of the bytes. */
const sources = [
  { folder: join(import.meta.dirname, '../node_modules'), part: 0.25 },
  { folder: '/usr/share', part: 0.3 },
  { folder: '/usr/lib', part: 0.45 },
];

/**
 * Fills `target` with about `bytes` of real files, always the same ones of one machine.
 *
 * @returns their size in bytes
 */
export async function gatherFiles(target: string, bytes: number): Promise<number> {
  let gathered = 0;
  for (const [index, { folder }] of sources.entries()) {
    // The next source compensates for a small one.
    const upTo = sources.slice(0, index + 1).reduce((sum, each) => sum + each.part, 0) * bytes;
    for await (const { path, size } of filesBelow(folder)) {
      if (gathered >= upTo) break;
      const copy = join(target, String(index), path.slice(folder.length + 1));
      await mkdir(dirname(copy), { recursive: true });
      await copyFile(path, copy);
      gathered += size;
    }
  }
  return gathered;
}

/** Skips larger files, so that no single file dominates the measurement. */
const maxFileBytes = 64 * mib;

async function* filesBelow(folder: string): AsyncGenerator<{ path: string; size: number }> {
  const names: string[] = [];
  for await (const { name } of await opendir(folder)) names.push(name);
  for (const name of names.sort()) {
    const path = join(folder, name);
    const found = await lstat(path);
    if (!(await isReadable(path))) continue;
    if (found.isDirectory()) yield* filesBelow(path);
    else if (found.isFile() && found.size <= maxFileBytes) yield { path, size: found.size };
  }
}

async function isReadable(path: string): Promise<boolean> {
  try {
    await access(path, constants.R_OK);
    return true;
  } catch {
    return false;
  }
}
