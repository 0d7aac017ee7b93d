import { readlinkSync } from 'node:fs';
import path from 'node:path';

import { NicheError, isNicheError, quote } from '../../core/errors.ts';
import { parseStoreBaseName, parseStorePath } from '../../core/nix/store-path.ts';

/** A path of a cache, as given on the command line. */
interface PathArgument {
  /** The hash part, which its narinfo is stored under. */
  readonly hash: string;
  /** The full store path, or null when only the hash was given. */
  readonly path: string | null;
}

/**
 * Reads a full store path, its last component, only its hash, or a link to it such as `./result`.
 *
 * @throws NicheError `usage`
 */
export function parsePathArgument(text: string, storeDir: string, cwd: string): PathArgument {
  try {
    // A hash alone gets a made-up name, so that the same parser checks it.
    const isHash = /^[0-9a-z]{32}$/.test(text);
    const followed = isHash ? null : followToStore(text, storeDir, cwd);
    const parsed =
      followed === null
        ? parseStoreBaseName(isHash ? `${text}-x` : text, storeDir)
        : parseStorePath(followed, storeDir);
    return { hash: parsed.hash, path: isHash ? null : parsed.path };
  } catch (cause) {
    if (!isNicheError(cause)) throw cause;
    throw new NicheError(
      'usage',
      `expected a path in "${storeDir}", a link to one, or its hash, got ${quote(text)}`,
      { cause },
    );
  }
}

/** Linux follows no longer chain of links (path_resolution(7)). */
const maxLinks = 40;

/**
 * Returns the store path that `text` is, is in, or links to; null for any other text. It follows one
 * link at a time, since in a chroot store the last one points to a path that does not exist outside.
 */
export function followToStore(text: string, storeDir: string, cwd: string): string | null {
  // Like Nix, it resolves ".." before links.
  let file = path.resolve(cwd, text);
  for (let links = 0; links <= maxLinks; links++) {
    const [base = ''] = file.startsWith(`${storeDir}/`)
      ? file.slice(storeDir.length + 1).split('/')
      : [];
    if (base !== '') return isBaseName(base) ? `${storeDir}/${base}` : null;
    const next = followFirstLink(file);
    if (next === null) return null;
    file = next;
  }
  return null;
}

/** Replaces the first component of `file` that is a link; returns null when none is. */
function followFirstLink(file: string): string | null {
  const names = file.split(path.sep).slice(1);
  for (const [at, name] of names.entries()) {
    const parent = path.sep + names.slice(0, at).join(path.sep);
    try {
      const target = readlinkSync(path.join(parent, name));
      return path.resolve(parent, target, ...names.slice(at + 1));
    } catch {
      // Not a link, or not there: then the next component is no link either.
    }
  }
  return null;
}

function isBaseName(text: string): boolean {
  try {
    parseStoreBaseName(text);
    return true;
  } catch (error) {
    if (!isNicheError(error)) throw error;
    return false;
  }
}
