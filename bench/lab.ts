import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdir, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { availableNix, createNixLab } from '../test/support/lab/nix-lab.ts';
import type { NixLab } from '../test/support/lab/nix-lab.ts';
import type { Command } from './measure.ts';

/** A machine with the newest available Nix, a cache of niche, and the CLI to fill it. */
export interface BenchLab {
  readonly lab: NixLab;
  /** The folder of the cache. */
  readonly cacheFolder: string;
  /** Returns a command line of niche. */
  readonly niche: (...args: string[]) => Command;
  readonly nix: (...args: string[]) => Command;
  readonly close: () => Promise<void>;
}

const run = promisify(execFile);

/** The bundle of the package, which users run. */
const main = join(import.meta.dirname, '../dist/niche.cjs');
const build = join(import.meta.dirname, '../scripts/build.ts');

/** @throws Error without a Nix under the tools folder */
export async function openBenchLab(): Promise<BenchLab> {
  await run(process.execPath, [build]);
  const nix = availableNix().at(-1);
  if (!nix) throw new Error('no Nix to compare with: run `npm run setup:test`');
  const lab = await createNixLab({ nix, settings: { 'max-jobs': '2', cores: '1' } });
  const cacheFolder = join(lab.folder, 'cache');
  const command = (name: string, args: readonly string[]): Command => ({
    command: name,
    args,
    env: lab.env,
    cwd: lab.work,
  });
  const bench: BenchLab = {
    lab,
    cacheFolder,
    niche: (...args) => command(process.execPath, [main, ...args]),
    nix: (...args) => command('nix', args),
    close: () => lab.close(),
  };
  try {
    await makeCache(bench);
  } catch (error) {
    await lab.close();
    throw error;
  }
  return bench;
}

/**
 * Replaces the cache with an empty one, and deletes the local state about the former one. The cache has
 * no listings, since `nix copy` writes none.
 */
export async function makeCache(bench: BenchLab): Promise<void> {
  const { lab, cacheFolder, niche } = bench;
  await putAside(bench, cacheFolder);
  await putAside(bench, join(lab.env['XDG_CACHE_HOME'] ?? '', 'niche/caches'));
  await mkdir(cacheFolder);
  const flags = ['--name', 'bench', '--no-upstream', '--no-listings'];
  const { command, args } = niche('init', cacheFolder, ...flags);
  await lab.output(command, args);
}

/**
 * Moves a folder away; it is deleted when the lab is closed. After thousands of deletions, ext4 creates
 * files slowly, since it skips recently freed inodes one by one. Also flushes the writes of the former run
 * to the disk, so that the next run does not pay for them.
 */
export async function putAside({ lab }: BenchLab, folder: string): Promise<void> {
  const aside = join(lab.folder, 'aside');
  await mkdir(aside, { recursive: true });
  await rename(folder, join(aside, randomUUID())).catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  });
  await run('sync');
}
