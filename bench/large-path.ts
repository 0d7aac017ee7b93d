import { join } from 'node:path';

import { openBenchLab } from './lab.ts';
import { comparePublishing } from './publish.ts';
import { gatherFiles } from './real-files.ts';
import { runAlone } from './report.ts';
import type { BenchOptions } from './report.ts';
import type { Result } from './result.ts';

const mib = 2 ** 20;

/** Measures one large path, which consists of real files of this machine. */
export async function benchLargePath({ quick }: BenchOptions): Promise<Result[]> {
  const bench = await openBenchLab();
  try {
    const { lab } = bench;
    const folder = join(lab.folder, 'large');
    const bytes = await gatherFiles(folder, (quick ? 40 : 520) * mib);
    const path = await lab.output('nix-store', ['--add', folder]);
    const what = `one path of ${(bytes / mib).toFixed(0)} MiB`;
    return await comparePublishing(bench, what, [path], quick ? 1 : 3);
  } finally {
    await bench.close();
  }
}

if (import.meta.main) await runAlone(benchLargePath);
