import { NicheError } from '../../core/errors.ts';
import type { Environment } from '../process/environment.ts';
import { linkTarget, readConfFile, replaceConfFile, userConfPath } from './conf-file.ts';
import type { ConfFile } from './conf-file.ts';
import { confLines, findBlocks, removeBlock, writeBlock } from './nix-conf.ts';
import type { Block, CacheEntry, Edit } from './nix-conf.ts';
import { snippetFor } from './snippets.ts';

/** What became of the user's nix.conf. */
export interface Written {
  readonly file: string;
  readonly change: Edit['change'] | 'removed';
  /** The substituter that niche's block had before. */
  readonly before: string | null;
}

/**
 * Puts the cache into the user's nix.conf, or makes what is there of it as it should be.
 *
 * @throws NicheError `usage` when the file is not the user's to edit, `malformed-config` when
 *   niche's block was edited, `storage-denied`
 */
export async function writeUse(env: Environment, entry: CacheEntry): Promise<Written> {
  const file = await openUserConf(env, entry);
  const { text, change, before } = writeBlock(file.text, entry, file.path);
  if (change !== 'unchanged') await replaceConfFile(file, text);
  return { file: file.path, change, before };
}

/**
 * Takes niche's block out of the user's nix.conf, which is then as it was before.
 *
 * @param which finds the block
 * @returns null when there is no such block
 * @throws NicheError as {@link writeUse}
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

/** Whether niche has put the cache into the user's nix.conf before. */
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
      'NIX_USER_CONF_FILES is empty, so Nix reads no nix.conf of yours',
    );
  }
  const target = await linkTarget(path);
  if (target !== null) {
    const snippet =
      entry === null
        ? 'take the cache out of it where it is made'
        : `put this where it is made:\n\n${snippetFor('nixos', entry)}\nor these lines, if you keep the file yourself:\n\n${confLines(entry).join('\n')}`;
    throw new NicheError(
      'usage',
      `${path} is a symbolic link to ${target}, as Home Manager makes them: it is left as it is`,
      { hint: snippet },
    );
  }
  return readConfFile(path);
}
