/** Shows what niche does, from an empty directory to an installed path, and leaves nothing behind. */
import { spawnSync } from 'node:child_process';
import { mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';

import { formatDuration } from '../cli/ui/format.ts';
import { demoWithNix } from './demo/with-nix.ts';
import { demoWithoutNix } from './demo/without-nix.ts';
import { installedNix, type NixVersion } from './setup/nix-installed.ts';

const begun = performance.now();
const interrupted = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    interrupted.abort(new Error('interrupted'));
  });
}

console.log('niche: Nix binary caches straight on object storage. No server to run.');
const folder = await realpath(await mkdtemp(join(tmpdir(), 'niche-demo-')));
try {
  const nix = nixOnPath() ?? installedNix().at(-1);
  if (nix) {
    console.log(
      `Using Nix ${nix.version} from ${nix.bin} with temporary stores. Your own store is not touched.`,
    );
    await demoWithNix(nix, folder, interrupted.signal);
  } else {
    console.log('Nix is not on PATH, so niche packs a path itself. With Nix this demo shows more.');
    await demoWithoutNix(folder, interrupted.signal);
  }
  console.log(
    `\nDone in ${formatDuration(performance.now() - begun)}. All files of the demo are removed.`,
  );
} catch (error) {
  console.error(`\ndemo: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = interrupted.signal.aborted ? 130 : 1;
} finally {
  await rm(folder, { recursive: true, force: true });
}

/** Returns the Nix on `PATH`; undefined if there is none or it does not run. */
function nixOnPath(): NixVersion | undefined {
  for (const bin of (process.env['PATH'] ?? '').split(delimiter)) {
    const { status, stdout } = spawnSync(join(bin, 'nix'), ['--version'], { encoding: 'utf8' });
    if (status !== 0) continue;
    const version = /[0-9]+\.[0-9][\w.]*$/.exec(stdout.trim())?.[0];
    if (version !== undefined) {
      return { version, bin, suite: 'host', packageVersion: version };
    }
  }
  return undefined;
}
