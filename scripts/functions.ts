/**
 * Bundles the functions of each cloud, each into one file. With `--docs`, writes the pages of their
 * contents.
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

/** Replaces modules that are never used by empty ones. */
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
/** The folder of `infra/`. A test passes its own, since other tests may be reading the checkout's. */
const out = process.argv.find((argument) => argument.startsWith('--out='))?.slice(6) ?? checkout;
/** Source maps, to read stack traces with. Deployed, they would slow down cold starts. */
const maps = join(out, '.maps');
/** The suffix of a file that is being written. */
const unfinished = '.unfinished';
const withDocs = process.argv.includes('--docs');
for (const target of functionTargets) {
  if (chosen.length === 0 || chosen.includes(target.cloud)) await make(target);
}

async function make(target: FunctionTarget): Promise<void> {
  const { cloud, entries } = target;
  const folder = join(out, target.folder);
  const bundles = await Promise.all(entries.map((name) => bundle(target, name)));
  const files = new Map<string, Uint8Array | string>();
  for (const { name, bytes } of bundles) files.set(outputOf(target, name), bytes);
  const licenses = await thirdPartyLicenses(bundles.map(({ metafile }) => metafile));
  files.set('third-party-licenses.txt', licenses);
  for (const [name, contents] of Object.entries(target.files)) {
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

/** Writes atomically, and only a changed file: another process may be packaging the folder. */
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
    // third-party-licenses.txt contains them in full.
    legalComments: 'none',
    platform: 'node',
    format: kind,
    target: 'node24',
    // Prefers ES modules, whose unused code can be removed.
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
  if (!code || !map) throw new Error(`esbuild returned no bundle for ${cloud} ${name}`);
  return { name, metafile, bytes: Buffer.from(code.contents), map: map.contents };
}

/** Writes the docs page on the contents of a cloud's bundles. */
async function writeSizes(cloud: string, bundles: readonly Bundle[]): Promise<void> {
  const file = join(checkout, `docs/deploy/${cloud}-bundle.md`);
  const names: Record<string, string> = { aws: 'AWS', azure: 'Azure', google: 'Google Cloud' };
  const page = `# Contents of the ${names[cloud] ?? cloud} functions

Generated by \`npm run functions:docs\`. The bundles are minified; their source maps are in \`.maps\`.

${sizesTable(bundles)}
`;
  const style = await resolveConfig(file);
  await writeFile(file, await format(page, { ...style, parser: 'markdown' }));
}
