import { lstatSync, mkdirSync, readdirSync, readlinkSync } from 'node:fs';
import path from 'node:path';

import type { Nix } from '../nix/nix.ts';
import { outLinkOf, withOutLink } from './build-arguments.ts';

/** The links to its results that a build command makes. They show what it built without evaluating. */
export interface OutLinks {
  /** The arguments to run the command with. */
  readonly args: readonly string[];
  /** Returns the store paths of the links made since {@link watchOutLinks}: outputs of the roots. */
  readonly read: () => readonly string[];
}

/**
 * Prepares to read the links of a build command. A command that would make none gets `--out-link` below
 * `folder`, which only holds the results until the folder is removed.
 *
 * @returns null for a command that makes no such links
 */
export function watchOutLinks(
  { storeDir, cwd }: Nix,
  command: string,
  args: readonly string[],
  folder: string,
): OutLinks | null {
  const outLink = outLinkOf(command, args);
  if (outLink === null) return null;
  if (outLink === 'none') {
    const own = path.join(folder, 'results');
    mkdirSync(own);
    return watching(
      path.join(own, 'result'),
      withOutLink(args, path.join(own, 'result')),
      storeDir,
    );
  }
  return watching(path.resolve(cwd, outLink.path), args, storeDir);
}

function watching(link: string, args: readonly string[], storeDir: string): OutLinks {
  const before = new Map(linksOf(link));
  return {
    args,
    read: () => {
      // Nix replaces links by renaming, so that each has a new inode.
      const made = linksOf(link).filter(([file, inode]) => before.get(file) !== inode);
      const targets = made.map(([file]) => readlinkSync(file));
      return targets.filter((target) => path.dirname(target) === storeDir);
    },
  };
}

/** Returns the symlinks such as `result`, `result-dev` and `result-2-dev`, each with its inode. */
function linksOf(link: string): [file: string, inode: bigint][] {
  const folder = path.dirname(link);
  const base = path.basename(link);
  let names: string[];
  try {
    names = readdirSync(folder).filter((name) => name === base || name.startsWith(`${base}-`));
  } catch {
    // A folder that Nix has not created.
    return [];
  }
  return names.flatMap((name): [string, bigint][] => {
    const file = path.join(folder, name);
    const stat = lstatSync(file, { bigint: true, throwIfNoEntry: false });
    return stat?.isSymbolicLink() ? [[file, stat.ino]] : [];
  });
}
