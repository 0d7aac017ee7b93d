/** Bundles the command line into `dist/`, which is what the npm and the Nix package consist of. */
import { chmod, copyFile, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { build } from 'esbuild';

import { lazyHttp } from './lazy-http.ts';
import { thirdPartyLicenses } from './licenses.ts';

const checkout = join(import.meta.dirname, '..');
const dist = join(checkout, 'dist');

await rm(dist, { recursive: true, force: true });
await mkdir(dist);
const { metafile } = await build({
  absWorkingDir: checkout,
  entryPoints: ['cli/main.ts'],
  outdir: dist,
  outExtension: { '.js': '.mjs' },
  bundle: true,
  // What is imported on first use, as the SDKs of the clouds, is a file of its own.
  splitting: true,
  chunkNames: 'chunks/[name]-[hash]',
  // Of CommonJS nothing can be left out.
  mainFields: ['module', 'main'],
  minifyWhitespace: true,
  metafile: true,
  platform: 'node',
  format: 'esm',
  target: 'node24',
  // The launcher imports the bundle, so no module is the main one any more.
  define: { 'import.meta.main': 'true' },
  // What is bundled from CommonJS asks for Node's own modules by `require`.
  banner: {
    js: "import { createRequire } from 'node:module';\nconst require = createRequire(import.meta.url);",
  },
  plugins: [lazyHttp],
  logLevel: 'warning',
});
const launcher = join(dist, 'niche.cjs');
await copyFile(join(checkout, 'scripts/launcher.cjs'), launcher);
await chmod(launcher, 0o755);
await writeFile(join(dist, 'third-party-licenses.txt'), await thirdPartyLicenses([metafile]));
