import { join } from 'node:path';

import { hostileKinds } from './hostile-nars.ts';
import { measure } from './measure.ts';
import { compare } from './pair.ts';
import type { Contestant } from './pair.ts';
import { runAlone } from './report.ts';
import type { BenchOptions } from './report.ts';
import type { Result } from './result.ts';

/**
 * Compares checking and compressing NARs that were made to be slow or large with an honest NAR of the
 * same size. The ratio must stay above 0.5, and the peak below 256 MiB.
 */
export async function benchHostile({ quick }: BenchOptions): Promise<Result[]> {
  const mib = quick ? 16 : 256;
  const results: Result[] = [];
  for (const kind of hostileKinds) {
    const name = `hostile NAR of ${mib} MiB: ${kind}`;
    results.push(
      await compare(name, publisher(kind, mib), publisher('honest', mib), quick ? 1 : 3),
    );
  }
  return results;
}

function publisher(kind: string, mib: number): Contestant {
  return {
    label: kind,
    run: () =>
      measure({
        command: process.execPath,
        args: [join(import.meta.dirname, 'hostile-nars.ts'), kind, String(mib)],
        env: {},
        cwd: import.meta.dirname,
      }),
  };
}

if (import.meta.main) await runAlone(benchHostile);
