/**
 * Bundles the functions that a deployment uploads, each into one file, and lists in the docs what
 * they consist of.
 */
import { gzipSync } from 'node:zlib';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { build } from 'esbuild';
import type { Metafile, Plugin } from 'esbuild';
import { format, resolveConfig } from 'prettier';

import { thirdPartyLicenses } from './licenses.ts';

const checkout = join(import.meta.dirname, '..');
/** Beside what names them in the deployment: a team commits the folder whole. */
const out = join(checkout, 'infra/aws/functions');
/** Source maps are for whoever reads a stack trace; deployed, they would only slow a cold start. */
const maps = join(checkout, 'dist/maps');
const sizesFile = join(checkout, 'docs/deploy/aws-bundle.md');

const names = ['publish', 'sweep'] as const;

/**
 * `{ z }` is an object with all of zod in it, of which nothing falls away; as a namespace it is the
 * same to whoever uses it, and most of it does.
 */
const zodNamespace: Plugin = {
  name: 'zod-namespace',
  setup(build) {
    build.onLoad({ filter: /\/(?:core|functions)\/.*\.ts$/ }, async ({ path }) => ({
      loader: 'ts',
      contents: (await readFile(path, 'utf8')).replace(
        "import { z } from 'zod';",
        "import * as z from 'zod';",
      ),
    }));
  },
};

await rm(out, { recursive: true, force: true });
await mkdir(out, { recursive: true });
await mkdir(maps, { recursive: true });
const bundles = await Promise.all(names.map(async (name) => ({ name, ...(await bundle(name)) })));
await writeFile(
  join(out, 'third-party-licenses.txt'),
  await thirdPartyLicenses(bundles.map(({ metafile }) => metafile)),
);
if (process.argv.includes('--docs')) await writeFile(sizesFile, await sizes());

async function bundle(name: string): Promise<{ metafile: Metafile; bytes: Buffer }> {
  const file = join(out, `${name}.mjs`);
  const { metafile } = await build({
    absWorkingDir: checkout,
    entryPoints: [`functions/aws/${name}.ts`],
    outfile: file,
    bundle: true,
    minify: true,
    sourcemap: 'external',
    metafile: true,
    platform: 'node',
    format: 'esm',
    target: 'node24',
    // The SDK’s own modules, of which what is not used falls away; its CommonJS is in one piece.
    mainFields: ['module', 'main'],
    conditions: ['module', 'import', 'node'],
    alias: {
      // In Lambda, credentials are in the environment: single sign-on, profiles and instance
      // metadata would be a third of the bundle.
      '@aws-sdk/credential-provider-node': './functions/aws/environment-credentials.ts',
    },
    // Storages and keys of other clouds are never opened here.
    external: ['@azure/*', '@google-cloud/*', '@aws-sdk/credential-providers', 'age-encryption'],
    plugins: [zodNamespace],
    banner: {
      js: "import{createRequire}from'node:module';const require=createRequire(import.meta.url);",
    },
    logLevel: 'warning',
  });
  await rename(`${file}.map`, join(maps, `${name}.mjs.map`));
  return { metafile, bytes: await readFile(file) };
}

/** What the bundles consist of, as a page of the docs. */
async function sizes(): Promise<string> {
  const rows = new Map<string, number[]>();
  bundles.forEach(({ metafile }, index) => {
    const bundled = Object.values(metafile.outputs).find(({ entryPoint }) => entryPoint);
    for (const [file, { bytesInOutput }] of Object.entries(bundled?.inputs ?? {})) {
      const part = partOf(file);
      const row = rows.get(part) ?? names.map(() => 0);
      row[index] = (row[index] ?? 0) + bytesInOutput;
      rows.set(part, row);
    }
  });
  const largest = [...rows].sort(([, [one = 0]], [, [other = 0]]) => other - one);
  const shown = largest.filter(([, [bytes = 0]]) => bytes >= 4096);
  const rest = names.map((_, index) =>
    largest
      .filter((row) => !shown.includes(row))
      .reduce((sum, [, row]) => sum + (row[index] ?? 0), 0),
  );
  const kib = (bytes: number): string => `${(bytes / 1024).toFixed(0)} KiB`;
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  const table = [
    line(['what', ...names]),
    line(['---', ...names.map(() => '--:')]),
    ...shown.map(([part, row]) => line([part, ...row.map(kib)])),
    line([`${largest.length - shown.length} smaller ones`, ...rest.map(kib)]),
    line(['**all**', ...bundles.map(({ bytes }) => `**${kib(bytes.length)}**`)]),
    line(['compressed', ...bundles.map(({ bytes }) => kib(gzipSync(bytes).length))]),
  ].join('\n');
  const page = `# What the AWS functions consist of

Written by \`npm run functions:docs\`. Minified; source maps are kept apart, in \`dist/maps\`.

${table}
`;
  const style = await resolveConfig(sizesFile);
  return format(page, { ...style, parser: 'markdown' });
}

function partOf(file: string): string {
  const [, name] = /.*node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(file) ?? [];
  if (name !== undefined) return name;
  const [top, second = ''] = file.split('/');
  return `niche: ${top === 'core' ? `core/${second}` : (top ?? '')}`;
}
