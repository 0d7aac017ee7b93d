import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';

import { availableNix, createNixLab } from '../test/support/nix-lab.ts';
import type { NixLab } from '../test/support/nix-lab.ts';
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

const main = join(import.meta.dirname, '../cli/start.ts');

/** @throws Error without a Nix under the tools folder */
export async function openBenchLab(): Promise<BenchLab> {
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

/** Makes our cache anew, empty; and forgets what this machine remembers of the one before. */
export async function makeCache({ lab, cacheFolder, niche }: BenchLab): Promise<void> {
  const remembered = join(lab.env['XDG_CACHE_HOME'] ?? '', 'niche/caches');
  for (const folder of [cacheFolder, remembered]) {
    await rm(folder, { recursive: true, force: true });
  }
  await mkdir(cacheFolder);
  const { command, args } = niche('init', cacheFolder, '--name', 'bench', '--no-upstream');
  await lab.output(command, args);
}
