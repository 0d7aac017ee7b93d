/**
 * Bundles the command line, the content of the npm and the Nix package.
 *
 * usage: node scripts/build.ts [FOLDER]     (default: dist)
 */
import { chmod, copyFile, mkdir, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';

import { build } from 'esbuild';

import { lazyHttp } from './lazy-http.ts';
import { thirdPartyLicenses } from './licenses.ts';
import { assertNamedExports, namedExports } from './named-exports.ts';

const checkout = join(import.meta.dirname, '..');
const dist = resolve(checkout, process.argv[2] ?? 'dist');

await rm(dist, { recursive: true, force: true });
await mkdir(dist, { recursive: true });
const { metafile } = await build({
  absWorkingDir: checkout,
  entryPoints: ['cli/main.ts'],
  outdir: dist,
  outExtension: { '.js': '.mjs' },
  bundle: true,
  // Modules that are imported on first use, as the clouds' SDKs, become files of their own.
  splitting: true,
  chunkNames: 'chunks/[name]-[hash]',
  // Unused code of a CommonJS module cannot be removed.
  mainFields: ['module', 'main'],
  minifyWhitespace: true,
  metafile: true,
  platform: 'node',
  format: 'esm',
  target: 'node24',
  // The launcher imports the bundle, so that Node does not consider it the main module.
  define: { 'import.meta.main': 'true' },
  // Bundled CommonJS modules load Node's own modules with `require`.
  banner: {
    js: "import { createRequire } from 'node:module';\nconst require = createRequire(import.meta.url);",
  },
  plugins: [lazyHttp, namedExports],
  logLevel: 'warning',
});
assertNamedExports(metafile);
const launcher = join(dist, 'niche.cjs');
await copyFile(join(checkout, 'scripts/launcher.cjs'), launcher);
await chmod(launcher, 0o755);
await writeFile(join(dist, 'third-party-licenses.txt'), await thirdPartyLicenses([metafile]));
