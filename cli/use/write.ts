import { NicheError, quote } from '../../core/errors.ts';
import type { Environment } from '../process/environment.ts';
import { linkTarget, readConfFile, replaceConfFile, userConfPath } from './conf-file.ts';
import type { ConfFile } from './conf-file.ts';
import { confLines, findBlocks, removeBlock, writeBlock } from './nix-conf.ts';
import type { Block, CacheEntry, Edit } from './nix-conf.ts';
import { snippetFor } from './snippets.ts';

/** The result of a change to the user's nix.conf. */
export interface Written {
  readonly file: string;
  readonly change: Edit['change'] | 'removed';
  /** The former substituter of the block. */
  readonly before: string | null;
}

/**
 * Adds the cache to the user's nix.conf, or updates its block.
 *
 * @throws NicheError `usage` when niche cannot edit the file; `malformed-config` when a block was edited;
 *   `storage-denied`
 */
export async function writeUse(env: Environment, entry: CacheEntry): Promise<Written> {
  const file = await openUserConf(env, entry);
  const { text, change, before } = writeBlock(file.text, entry, file.path);
  if (change !== 'unchanged') await replaceConfFile(file, text);
  return { file: file.path, change, before };
}

/**
 * Removes a block from the user's nix.conf.
 *
 * @param which selects the block
 * @returns null when there is no such block
 * @throws NicheError with the codes of {@link writeUse}
 */
export async function removeUse(
  env: Environment,
  which: (block: Block) => boolean,
): Promise<Written | null> {
  const path = userConfPath(env);
  if (path === null) return null;
  const { text } = await readConfFile(path);
  const block = findBlocks(text ?? '', path).find(which);
  if (text === null || !block) return null;
  const file = await openUserConf(env, null);
  await replaceConfFile(file, removeBlock(text, block));
  return { file: path, change: 'removed', before: block.substituter };
}

/** Returns whether the user's nix.conf has a block for the cache. */
export async function isWritten(env: Environment, name: string): Promise<boolean> {
  const path = userConfPath(env);
  if (path === null) return false;
  const { text } = await readConfFile(path);
  return findBlocks(text ?? '', path).some((block) => block.name === name);
}

async function openUserConf(env: Environment, entry: CacheEntry | null): Promise<ConfFile> {
  const path = userConfPath(env);
  if (path === null) {
    throw new NicheError(
      'usage',
      'cannot change your nix.conf: NIX_USER_CONF_FILES is empty, so Nix reads none',
    );
  }
  const target = await linkTarget(path);
  if (target !== null) {
    const snippet =
      entry === null
        ? 'remove the cache where the file is generated'
        : `add this where the file is generated:\n\n${snippetFor('nixos', entry)}\nor these lines, if you maintain it yourself:\n\n${confLines(entry).join('\n')}`;
    throw new NicheError(
      'usage',
      `cannot change ${quote(path)}: it is a symbolic link to ${quote(target)}, as Home Manager creates them`,
      { hint: snippet },
    );
  }
  return readConfFile(path);
}
