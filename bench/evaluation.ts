import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { graph, nixSystem } from '../test/support/lab/nix-graph.ts';
import { makeCache, openBenchLab } from './lab.ts';
import { measure } from './measure.ts';
import type { Command } from './measure.ts';
import { compare } from './pair.ts';
import { runAlone } from './report.ts';
import type { BenchOptions } from './report.ts';
import type { Result } from './result.ts';

/** Compares `niche build` with nix alone on a flake that takes seconds to evaluate and little to build. */
export async function benchEvaluation({ quick }: BenchOptions): Promise<Result[]> {
  const bench = await openBenchLab();
  try {
    const { lab, cacheFolder } = bench;
    const additions = quick ? 1_000_000 : 10_000_000;
    let salt = 0;

    /** A flake that was never evaluated. */
    async function fresh(command: Command, env: Command['env']): ReturnType<typeof measure> {
      salt += 1;
      const parts = graph([{ name: 'lower' }, { name: 'upper', deps: ['lower'] }], String(salt));
      await writeFile(join(lab.work, 'default.nix'), parts);
      await writeFile(join(lab.work, 'flake.nix'), slowFlake(additions));
      await makeCache(bench);
      return measure({ ...command, env });
    }

    const args = ['build', 'path:.#upper', '--no-link'];
    const [, ...buildArgs] = args;
    const { env: untrusted } = await lab.daemon();
    const users = [
      ['a trusted user', lab.env],
      ['an untrusted user', untrusted],
    ] as const;
    const results: Result[] = [];
    for (const [user, env] of users) {
      const ours = {
        label: 'niche build',
        run: () => fresh(bench.niche('build', '-u', cacheFolder, '--', ...buildArgs), env),
      };
      const plain = {
        label: `nix build ${lab.nix.version}`,
        run: () => fresh(bench.nix(...args), env),
      };
      results.push(await compare(`a slow flake, ${user}`, ours, plain, quick ? 1 : 3));
    }
    return results;
  } finally {
    await bench.close();
  }
}

/** Returns the flake of `default.nix`, whose evaluation adds numbers first. */
function slowFlake(additions: number): string {
  const sum = `builtins.foldl' (a: b: a + b) 0 (builtins.genList (n: n) ${additions})`;
  const parts = `import ./default.nix { system = "${nixSystem}"; }`;
  return `{
  outputs = { self }: {
    packages."${nixSystem}" = builtins.mapAttrs (_: part: builtins.seq (${sum}) part) (${parts});
  };
}
`;
}

if (import.meta.main) await runAlone(benchEvaluation);
