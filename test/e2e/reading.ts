import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { pathToFileURL } from 'node:url';

import { runNiche } from '../support/lab/niche-process.ts';
import { graph } from '../support/lab/nix-graph.ts';
import { createNixLab } from '../support/lab/nix-lab.ts';
import type { NixLab, NixVersion } from '../support/lab/nix-lab.ts';
import { temporaryFolder } from '../support/cache/small-cache.ts';

/** A cache in a directory, with a closure built by another machine. */
export interface PublishedCache {
  readonly directory: string;
  readonly url: string;
  readonly publicKey: string;
  /** A store path with one reference. */
  readonly storePath: string;
}

const parts = graph([
  { name: 'lower', bytes: 3_000_000 },
  { name: 'upper', deps: ['lower'] },
]);

/** Creates a machine that can build the closure too. */
export async function makeReader(t: TestContext, nix: NixVersion): Promise<NixLab> {
  const lab = await createNixLab({ nix });
  t.after(() => lab.close());
  await writeFile(join(lab.work, 'default.nix'), parts);
  return lab;
}

/** @returns null if the test was skipped: the caller must return */
export async function publishCache(
  t: TestContext,
  nix: NixVersion,
): Promise<PublishedCache | null> {
  const maker = await makeReader(t, nix);
  if (maker.kind !== 'chroot') {
    t.skip('this user cannot build below /nix/store, and no two labs share another folder');
    return null;
  }
  const directory = join(await temporaryFolder(t), 'cache');
  const niche = { cwd: maker.work, env: maker.env };
  const made = await runNiche(['init', directory, '--name', 'e2e', '--json'], niche);
  assert.equal(made.status, 0, made.stderr);
  const { publicKey } = JSON.parse(made.stdout) as { publicKey: string };
  const storePath = await maker.output('nix-build', ['--no-out-link', '-A', 'upper']);
  const pushed = await runNiche(['push', '-u', directory, storePath], niche);
  assert.equal(pushed.status, 0, pushed.stderr);
  return { directory, url: pathToFileURL(directory).href, publicKey, storePath };
}
