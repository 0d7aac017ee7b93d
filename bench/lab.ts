import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdir, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { availableNix, createNixLab } from '../test/support/lab/nix-lab.ts';
import type { NixLab } from '../test/support/lab/nix-lab.ts';
import type { Command } from './measure.ts';

/** A machine with the newest Nix at hand, a cache of ours, and the CLI to fill it. */
export interface BenchLab {
  readonly lab: NixLab;
  /** The folder of our cache. */
  readonly cacheFolder: string;
  /** A command line of niche's. */
  readonly niche: (...args: string[]) => Command;
  readonly nix: (...args: string[]) => Command;
  readonly close: () => Promise<void>;
}

const run = promisify(execFile);

/** What users run: the package's bundle. */
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
 * Makes our cache anew, empty; and forgets what this machine remembers of the one before. Without
 * listings, as `nix copy` writes none.
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
 * Takes a folder away, without deleting it before the lab is closed: ext4 goes around inodes that were freed
 * a moment ago, one by one, so whoever makes files after thousands were deleted pays for that. And has
 * written to the disk what the run before left to be written, for the same reason.
 */
export async function putAside({ lab }: BenchLab, folder: string): Promise<void> {
  const aside = join(lab.folder, 'aside');
  await mkdir(aside, { recursive: true });
  await rename(folder, join(aside, randomUUID())).catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  });
  await run('sync');
}
