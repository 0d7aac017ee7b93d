/**
 * Bundles the functions that a deployment uploads, each into one file, and lists in the docs what
 * they consist of.
 *
 * usage: node scripts/functions.ts [--docs] [--out=FOLDER] [aws|azure|google …]
 */
import { mkdir, readFile, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { build } from 'esbuild';
import type { Plugin } from 'esbuild';
import { format, resolveConfig } from 'prettier';

import { sizesTable } from './bundle-sizes.ts';
import type { Bundle } from './bundle-sizes.ts';
import { functionTargets } from './function-targets.ts';
import type { FunctionTarget } from './function-targets.ts';
import { lazyHttp } from './lazy-http.ts';
import { thirdPartyLicenses } from './licenses.ts';

const checkout = join(import.meta.dirname, '..');

/** Empty modules in place of what is never loaded. */
function without(filter: RegExp): Plugin {
  return {
    name: 'without',
    setup(build) {
      build.onResolve({ filter }, ({ path }) => ({ path, namespace: 'without' }));
      build.onLoad({ filter: /./, namespace: 'without' }, () => ({
        contents: 'module.exports = {};',
      }));
    },
  };
}

/** Replaces the registry of storage drivers, so that the SDKs of other clouds are not bundled. */
function withDriversOf(cloud: FunctionTarget['cloud']): Plugin {
  return {
    name: 'drivers',
    setup(build) {
      build.onResolve({ filter: /\/drivers\.ts$/ }, ({ path, resolveDir }) =>
        join(resolveDir, path) === join(checkout, 'core/storage/open/drivers.ts')
          ? { path: join(checkout, `functions/${cloud}/drivers.ts`) }
          : null,
      );
    },
  };
}

const chosen = process.argv.slice(2).filter((argument) => !argument.startsWith('--'));
/** Where `infra/` is written to: a test has its own, as others may be reading the checkout's. */
const out = process.argv.find((argument) => argument.startsWith('--out='))?.slice(6) ?? checkout;
/** Source maps are for whoever reads a stack trace; deployed, they would only slow a cold start. */
const maps = join(out, '.maps');
/** Of a file that is still being written. */
const unfinished = '.unfinished';
const withDocs = process.argv.includes('--docs');
for (const target of functionTargets) {
  if (chosen.length === 0 || chosen.includes(target.cloud)) await make(target);
}

async function make(target: FunctionTarget): Promise<void> {
  const { cloud, entries, beside } = target;
  const folder = join(out, target.folder);
  const bundles = await Promise.all(entries.map((name) => bundle(target, name)));
  const files = new Map<string, Uint8Array | string>();
  for (const { name, bytes } of bundles) files.set(outputOf(target, name), bytes);
  const licenses = await thirdPartyLicenses(bundles.map(({ metafile }) => metafile));
  files.set('third-party-licenses.txt', licenses);
  for (const [name, contents] of Object.entries(beside)) {
    const isPath = typeof contents === 'string';
    files.set(
      name,
      isPath ? await readFile(join(checkout, contents)) : `${JSON.stringify(contents, null, 2)}\n`,
    );
  }
  for (const [name, contents] of files) await put(join(folder, name), contents);
  for (const { name, map } of bundles) {
    await put(join(maps, cloud, `${outputOf(target, name)}.map`), map);
  }
  for (const name of await readdir(folder)) {
    const isOurs = files.has(name) || name.endsWith(unfinished);
    if (!isOurs) await rm(join(folder, name), { recursive: true, force: true });
  }
  if (withDocs) await writeSizes(cloud, bundles);
}

/** At once, and only if it differs: others may be packaging what an earlier run has made. */
async function put(file: string, contents: Uint8Array | string): Promise<void> {
  const bytes = Buffer.from(contents);
  const before = await readFile(file).catch(() => null);
  if (before?.equals(bytes) === true) return;
  const draft = `${file}.${process.pid}${unfinished}`;
  await mkdir(dirname(file), { recursive: true });
  await writeFile(draft, bytes);
  await rename(draft, file);
}

function outputOf({ format: kind }: FunctionTarget, name: string): string {
  return `${name}.${kind === 'esm' ? 'mjs' : 'cjs'}`;
}

async function bundle(
  target: FunctionTarget,
  name: string,
): Promise<Bundle & { readonly map: Uint8Array }> {
  const { cloud, folder, format: kind } = target;
  const { metafile, outputFiles } = await build({
    absWorkingDir: checkout,
    entryPoints: [`functions/${cloud}/${name}.ts`],
    outfile: join(out, folder, outputOf(target, name)),
    bundle: true,
    minify: true,
    sourcemap: 'external',
    // They are in third-party-licenses.txt, whole.
    legalComments: 'none',
    platform: 'node',
    format: kind,
    target: 'node24',
    // The SDKs' own modules, of which what is not used falls away; their CommonJS is in one piece.
    mainFields: ['module', 'main'],
    conditions: ['module', 'import', 'node'],
    plugins: [lazyHttp, withDriversOf(cloud), ...(target.absent ? [without(target.absent)] : [])],
    ...(kind === 'esm'
      ? {
          banner: {
            js: "import{createRequire}from'node:module';const require=createRequire(import.meta.url);",
          },
        }
      : {}),
    logLevel: 'warning',
    ...target.build,
    metafile: true,
    write: false,
  });
  const map = outputFiles.find(({ path }) => path.endsWith('.map'));
  const code = outputFiles.find(({ path }) => !path.endsWith('.map'));
  if (!code || !map) throw new Error(`esbuild made no bundle of ${cloud} ${name}`);
  return { name, metafile, bytes: Buffer.from(code.contents), map: map.contents };
}

/** What the bundles of a cloud consist of, as a page of the docs. */
async function writeSizes(cloud: string, bundles: readonly Bundle[]): Promise<void> {
  const file = join(checkout, `docs/deploy/${cloud}-bundle.md`);
  const names: Record<string, string> = { aws: 'AWS', azure: 'Azure', google: 'Google Cloud' };
  const page = `# What the ${names[cloud] ?? cloud} functions consist of

Written by \`npm run functions:docs\`. Minified; source maps are kept apart, in \`.maps\`.

${sizesTable(bundles)}
`;
  const style = await resolveConfig(file);
  await writeFile(file, await format(page, { ...style, parser: 'markdown' }));
}
