import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { installHook } from '../cli/watch/hook.ts';
import { graph } from '../test/support/lab/nix-graph.ts';
import { makeCache, openBenchLab } from './lab.ts';
import { measure } from './measure.ts';
import type { Command, Cost } from './measure.ts';
import { compare } from './pair.ts';
import { runAlone } from './report.ts';
import type { BenchOptions } from './report.ts';
import type { Result } from './result.ts';

/** Compares `niche build` with nix alone on a build of many trivial derivations. */
export async function benchHook({ quick }: BenchOptions): Promise<Result[]> {
  const bench = await openBenchLab();
  try {
    const { lab, cacheFolder } = bench;
    const builds = quick ? 20 : 200;
    let salt = 0;

    /** Derivations that were never built. */
    async function fresh(command: (build: readonly string[]) => Command): Promise<Cost> {
      salt += 1;
      const names = Array.from({ length: builds }, (_, index) => `part-${index}`);
      const parts = [...names.map((name) => ({ name })), { name: 'all', deps: names }];
      await writeFile(join(lab.work, 'default.nix'), graph(parts, String(salt)));
      await makeCache(bench);
      return measure(command(['build', '--no-link', '-f', 'default.nix', 'all']));
    }

    const ours = (...flags: string[]) => ({
      label: ['niche build', ...flags].join(' '),
      run: () =>
        fresh(([, ...args]) => bench.niche('build', '-u', cacheFolder, ...flags, '--', ...args)),
    });
    const plain = {
      label: `nix build ${lab.nix.version}`,
      run: () => fresh((build) => bench.nix(...build)),
    };
    const { hookFile } = installHook({ folder: lab.folder, previousHook: null });
    const spooling = {
      label: `nix build ${lab.nix.version} with niche’s hook`,
      run: () => fresh((build) => bench.nix(...build, '--post-build-hook', hookFile)),
    };
    // One round is enough: each run consists of many builds, and takes half a minute.
    const rounds = quick ? 1 : 2;
    const what = `${builds} trivial builds`;
    return [
      await compare(`${what}, the hook alone`, spooling, plain, rounds),
      await compare(`${what}, published`, ours(), plain, rounds),
    ];
  } finally {
    await bench.close();
  }
}

if (import.meta.main) await runAlone(benchHook);
