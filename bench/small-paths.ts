import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { openBenchLab } from './lab.ts';
import { comparePublishing } from './publish.ts';
import { runAlone } from './report.ts';
import type { BenchOptions } from './report.ts';
import type { Result } from './result.ts';

/** The size of each path. */
const fileBytes = 20_000;

/** Measures many small paths. Every second one refers to one or two earlier ones. */
export async function benchSmallPaths({ quick }: BenchOptions): Promise<Result[]> {
  const bench = await openBenchLab();
  try {
    const { lab } = bench;
    const count = quick ? 50 : 1000;
    await writeFile(join(lab.work, 'small.nix'), smallPaths(count));
    const printed = await lab.output('nix-instantiate', [
      '--eval',
      '--json',
      '--strict',
      '--read-write-mode',
      'small.nix',
    ]);
    const paths = JSON.parse(printed) as string[];
    return await comparePublishing(bench, `${count} paths of 20 KB`, paths, quick ? 1 : 3);
  } finally {
    await bench.close();
  }
}

/**
 * Returns an expression whose evaluation adds the paths to the store, without a build.
 *
 * @param seed changes all paths
 */
export function smallPaths(count: number, seed = 0): string {
  const definitions = Array.from({ length: count }, (_, index) => {
    const references = index % 2 === 0 ? [] : [index - 1, index >> 1];
    const named = references.map((reference) => `\${p${reference}}`).join('\\n');
    return `  p${index} = builtins.toFile "small-${index}" "${named}\\n${contents(seed + index)}";`;
  });
  const names = Array.from({ length: count }, (_, index) => `p${index}`);
  return `let\n${definitions.join('\n')}\nin [ ${names.join(' ')} ]\n`;
}

/** Returns words that compress about as well as text. */
function contents(index: number): string {
  let seed = index + 1;
  let text = '';
  while (text.length < fileBytes) {
    // The generator of Park and Miller gives the same paths on every machine.
    seed = (seed * 48_271) % 2_147_483_647;
    text += `${(seed % 4096).toString(36)} `;
  }
  return text.slice(0, fileBytes);
}

if (import.meta.main) await runAlone(benchSmallPaths);
