import { gzipSync } from 'node:zlib';

import type { Metafile } from 'esbuild';

export interface Bundle {
  readonly name: string;
  readonly metafile: Metafile;
  readonly bytes: Buffer;
}

/** The smallest package with a row of its own, in bytes. */
const shownFrom = 4096;

/** Returns a Markdown table of the packages in the bundles. */
export function sizesTable(bundles: readonly Bundle[]): string {
  const rows = new Map<string, number[]>();
  bundles.forEach(({ metafile }, index) => {
    const bundled = Object.values(metafile.outputs).find(({ entryPoint }) => entryPoint);
    for (const [file, { bytesInOutput }] of Object.entries(bundled?.inputs ?? {})) {
      const part = partOf(file);
      const row = rows.get(part) ?? bundles.map(() => 0);
      row[index] = (row[index] ?? 0) + bytesInOutput;
      rows.set(part, row);
    }
  });
  const largest = [...rows].sort(([, [one = 0]], [, [other = 0]]) => other - one);
  const shown = largest.filter(([, [bytes = 0]]) => bytes >= shownFrom);
  const rest = bundles.map((_, index) =>
    largest
      .filter((row) => !shown.includes(row))
      .reduce((sum, [, row]) => sum + (row[index] ?? 0), 0),
  );
  const kib = (bytes: number): string => `${(bytes / 1024).toFixed(0)} KiB`;
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [
    line(['package', ...bundles.map(({ name }) => name)]),
    line(['---', ...bundles.map(() => '--:')]),
    ...shown.map(([part, row]) => line([part, ...row.map(kib)])),
    line([`${largest.length - shown.length} smaller packages`, ...rest.map(kib)]),
    line(['**total**', ...bundles.map(({ bytes }) => `**${kib(bytes.length)}**`)]),
    line(['compressed', ...bundles.map(({ bytes }) => kib(gzipSync(bytes).length))]),
  ].join('\n');
}

function partOf(file: string): string {
  const [, name] = /.*node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(file) ?? [];
  if (name !== undefined) return name;
  const [top, second = ''] = file.split('/');
  return `niche: ${top === 'core' ? `core/${second}` : (top ?? '')}`;
}
