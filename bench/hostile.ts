import { randomBytes } from 'node:crypto';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { packTree } from '../cli/nix/pack-tree.ts';
import { openStagedCache } from './hostile-cache.ts';
import type { NarFile, StagedCache } from './hostile-cache.ts';
import { hostileKinds, hostileNar, references } from './hostile-nars.ts';
import { compare } from './pair.ts';
import type { Contestant } from './pair.ts';
import { gatherFiles } from './real-files.ts';
import { runAlone } from './report.ts';
import type { BenchOptions } from './report.ts';
import type { Result } from './result.ts';

const mib = 2 ** 20;

/** A publisher works on as many batches at once. */
const batches = 2;

/** Of an honest path. */
const honestReferences = references.slice(0, 20);

/**
 * Compares publishing two NARs that were made to be slow or large with two of the same size that
 * consist of real files of this machine. The ratio must stay above 0.5, and the peak below 256 MiB.
 */
export async function benchHostile({ quick }: BenchOptions): Promise<Result[]> {
  const size = (quick ? 16 : 256) * mib;
  const cache = await openStagedCache(references);
  try {
    const honest = await twice((name) => honestNar(cache, name, size));
    const results: Result[] = [];
    for (const kind of hostileKinds) {
      const hostile = await twice((name) =>
        cache.writeNarFile(`${kind} ${name}`, hostileNar(kind, size), references),
      );
      results.push(
        await compare(
          `two hostile NARs of ${size / mib} MiB at once: ${kind}`,
          publisherOf(cache, 'hostile', hostile),
          publisherOf(cache, 'honest', honest),
          quick ? 1 : 3,
        ),
      );
      for (const { file } of hostile) await rm(file);
    }
    return results;
  } finally {
    await cache.close();
  }
}

async function twice(make: (name: string) => Promise<NarFile>): Promise<NarFile[]> {
  const made: NarFile[] = [];
  for (let index = 0; index < batches; index++) made.push(await make(String(index)));
  return made;
}

/** Writes a NAR of real files that refers to {@link honestReferences}. */
async function honestNar(cache: StagedCache, name: string, size: number): Promise<NarFile> {
  const folder = join(cache.folder, `honest ${name}`);
  await mkdir(folder);
  await gatherFiles(folder, size);
  const unique = randomBytes(16).toString('hex');
  await writeFile(join(folder, 'references'), [...honestReferences, unique].join('\n'));
  return cache.writeNarFile(`honest ${name}`, packTree(folder), honestReferences);
}

function publisherOf(cache: StagedCache, label: string, nars: readonly NarFile[]): Contestant {
  return { label, run: () => cache.publish(nars) };
}

if (import.meta.main) await runAlone(benchHostile);
