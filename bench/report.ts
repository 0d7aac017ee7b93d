import { mkdir, writeFile } from 'node:fs/promises';
import { cpus, release } from 'node:os';
import { join } from 'node:path';

import type { Comparison, Result, Spread, Throughput } from './result.ts';

/** How much a benchmark does. */
export interface BenchOptions {
  /** Small inputs and few rounds, to check that the benchmark works. */
  readonly quick: boolean;
}

/** A benchmark. */
export type Bench = (options: BenchOptions) => Promise<Result[]>;

/** Runs benchmarks in sequence, prints their table and writes `results/<time>.json`. */
export async function runBenches(benches: readonly Bench[], options: BenchOptions): Promise<void> {
  const results: Result[] = [];
  for (const bench of benches) results.push(...(await bench(options)));
  const machine = {
    node: process.version,
    kernel: release(),
    cpus: cpus().map(({ model }) => model),
  };
  const at = new Date().toISOString();
  const folder = join(import.meta.dirname, 'results');
  await mkdir(folder, { recursive: true });
  const file = join(folder, `${at.replaceAll(':', '-')}.json`);
  await writeFile(file, `${JSON.stringify({ at, ...options, machine, results }, null, 2)}\n`);
  console.log(table(results));
  console.log(`\nnode ${process.version}, ${machine.cpus.length} CPUs; written to ${file}`);
}

/** Runs one benchmark: `node bench/<module>.ts [--quick]`. */
export async function runAlone(bench: Bench): Promise<void> {
  await runBenches([bench], { quick: process.argv.includes('--quick') });
}

function table(results: readonly Result[]): string {
  const comparisons = results.filter((result) => result.kind === 'comparison');
  const throughputs = results.filter((result) => result.kind === 'throughput');
  const parts: string[] = [];
  if (comparisons.length > 0) parts.push(...comparisons.map(describe));
  if (throughputs.length > 0) parts.push(aligned(throughputs.map(throughputRow)));
  return parts.join('\n\n');
}

function describe({ name, ours, peer, speed, cpu, size }: Comparison): string {
  const rows = [
    ['', 'wall s', 'CPU s', 'peak MiB'],
    ...[ours, peer].map(({ label, wallSeconds, cpuSeconds, peakMib }) => [
      label,
      range(wallSeconds),
      range(cpuSeconds),
      peakMib.toFixed(0),
    ]),
    ['peer ÷ ours', `${range(speed)}×`, `${range(cpu)}×`, ''],
  ];
  const sizes = size === undefined ? '' : `\nstored: ${(100 * size).toFixed(2)} % of the peer’s`;
  return `${name}\n${aligned(rows)}${sizes}`;
}

function throughputRow({ name, mbPerSecond }: Throughput): string[] {
  const { median, min, max } = mbPerSecond;
  return [name, `${median.toFixed(0)} MB/s`, `(${min.toFixed(0)}–${max.toFixed(0)})`];
}

function range({ median, min, max }: Spread): string {
  return `${median.toFixed(2)} (${min.toFixed(2)}–${max.toFixed(2)})`;
}

function aligned(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) =>
    Math.max(...rows.map((row) => row[column]?.length ?? 0)),
  );
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
