import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { openBenchLab } from './lab.ts';
import { comparePublishing } from './publish.ts';
import { runAlone } from './report.ts';
import type { BenchOptions } from './report.ts';
import type { Result } from './result.ts';

/** Of each path's contents. */
const fileBytes = 20_000;

/** Many small paths, every other of which refers to one or two before it. */
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
 * An expression that puts the paths into the store while it is evaluated, with no build.
 *
 * @param seed other paths with each
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

/** Words that compress about as text does. */
function contents(index: number): string {
  let seed = index + 1;
  let text = '';
  while (text.length < fileBytes) {
    // Park and Miller's generator: the same paths on every machine.
    seed = (seed * 48_271) % 2_147_483_647;
    text += `${(seed % 4096).toString(36)} `;
  }
  return text.slice(0, fileBytes);
}

if (import.meta.main) await runAlone(benchSmallPaths);
