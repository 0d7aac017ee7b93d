import assert from 'node:assert/strict';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';

import { parseNarInfo } from '../../core/nix/narinfo.ts';
import { createMachine, skipUnlessChroot } from '../support/lab/e2e-machine.ts';
import { everyNix } from '../support/lab/nix-lab.ts';

const experimentalFeatures = ['nix-command', 'flakes', 'ca-derivations'];
const debugFile = 'lib/debug/.build-id/02/623eda209c26a59b1a8638ff7752f6b945c26b.debug';

const expression = `let
  make = attributes: derivation ({
    system = builtins.currentSystem; builder = "/bin/sh"; PATH = "/usr/bin:/bin";
  } // attributes);
  floating = { __contentAddressed = true; outputHashMode = "recursive"; outputHashAlgo = "sha256"; };
in rec {
  silent = make { name = "silent"; args = [ "-c" "echo > $out" ]; };
  input = make (floating // { name = "input"; args = [ "-c" "echo building input; echo > $out" ]; });
  resolved = make (floating // {
    name = "resolved"; inherit input;
    args = [ "-c" "echo building resolved; echo $input > $out" ];
  });
  debug = make {
    name = "debug"; file = "${debugFile}";
    args = [ "-c" "mkdir -p $out/$(dirname $file); echo foo > $out/$file" ];
  };
}`;

for (const nix of everyNix()) {
  test(`logs and debug files of every kind are found, nix ${nix.version}`, async (t) => {
    const machine = await createMachine(t, { nix, experimentalFeatures });
    const cache = await machine.makeCache();
    await writeFile(join(machine.work, 'default.nix'), expression);
    const names = ['silent', 'resolved', 'debug'];
    const build = ['--', '-f', 'default.nix', '--no-link', ...names];
    await machine.nicheDoes(['build', '-u', cache.url, ...build]);

    // What Nix writes, except that the NAR has another key.
    const copy = join(machine.folder, 'copy');
    const debug = await machine.output('nix-build', ['--no-out-link', '-A', 'debug']);
    const store = `file://${copy}?index-debug-info=true&compression=none`;
    await machine.output('nix', ['copy', '--to', store, debug]);
    assert.deepEqual(
      await readLink(cache.directory),
      (await readLink(copy)).replace(await narUrl(copy), await narUrl(cache.directory)),
    );

    if (skipUnlessChroot(t, machine)) return;
    const reader = await createMachine(t, {
      nix,
      experimentalFeatures,
      trustedPublicKeys: [cache.publicKey],
      settings: { substituters: cache.url },
    });
    await writeFile(join(reader.work, 'default.nix'), expression);
    const log = async (part: string): Promise<string> => {
      const drv = await reader.output('nix-instantiate', ['--quiet', '-A', part]);
      return reader.output('nix', ['log', drv]);
    };
    assert.equal(await log('silent'), '');
    assert.equal(await log('input'), 'building input');
    assert.equal(await log('resolved'), 'building resolved');
  });
}

async function readLink(cache: string): Promise<string> {
  const [name, ...others] = await readdir(join(cache, 'debuginfo'));
  assert.deepEqual(others, []);
  return readFile(join(cache, 'debuginfo', name!), 'utf8');
}

/** Returns the key of the NAR of the path with the debug file. */
async function narUrl(cache: string): Promise<string> {
  for (const name of await readdir(cache)) {
    if (!name.endsWith('.narinfo')) continue;
    const { path, url } = parseNarInfo(await readFile(join(cache, name), 'utf8'));
    if (path.endsWith('-debug')) return url;
  }
  throw new Error('the cache has no path with debug files');
}
