import { execFile } from 'node:child_process';
import { mkdir, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { makeCache, putAside } from './lab.ts';
import type { BenchLab } from './lab.ts';
import { measure } from './measure.ts';
import { compare } from './pair.ts';
import type { Contestant } from './pair.ts';
import type { Result } from './result.ts';

const run = promisify(execFile);

/**
 * Compares publishing `paths` to a directory, by the publisher alone and from end to end, with
 * `nix copy` at the same compression level.
 */
export async function comparePublishing(
  bench: BenchLab,
  what: string,
  paths: readonly string[],
  rounds: number,
): Promise<Result[]> {
  const { lab, cacheFolder } = bench;
  const peerFolder = join(lab.folder, 'nix-copy');
  const stagedFolder = join(lab.folder, 'staged');

  await makeCache(bench);
  await measure(bench.niche('push', '-u', cacheFolder, '--no-publish', ...paths));
  await run('cp', ['-al', cacheFolder, stagedFolder]);

  const storedBytes = (folder: string) => async (): Promise<number> => {
    const sizes = await Promise.all(
      (await readdir(join(folder, 'nar'))).map((name) => stat(join(folder, 'nar', name))),
    );
    return sizes.reduce((sum, { size }) => sum + size, 0);
  };
  const peer: Contestant = {
    label: `nix copy ${lab.nix.version}`,
    async run() {
      await putAside(bench, peerFolder);
      await mkdir(peerFolder);
      const url = `file://${peerFolder}?compression=zstd&compression-level=3`;
      return measure(bench.nix('copy', '--to', url, ...paths));
    },
    storedBytes: storedBytes(peerFolder),
  };
  const publisher: Contestant = {
    label: 'niche worker --once',
    async run() {
      await putAside(bench, cacheFolder);
      await run('cp', ['-al', stagedFolder, cacheFolder]);
      return measure(bench.niche('worker', '--once', cacheFolder));
    },
    storedBytes: storedBytes(cacheFolder),
  };
  const push: Contestant = {
    label: 'niche push',
    async run() {
      await makeCache(bench);
      return measure(bench.niche('push', '-u', cacheFolder, ...paths));
    },
    storedBytes: storedBytes(cacheFolder),
  };
  return [
    await compare(`${what}: the publisher alone`, publisher, peer, rounds),
    await compare(`${what}: end to end`, push, peer, rounds),
  ];
}
