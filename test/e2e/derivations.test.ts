import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';

import { createMachine, skipUnlessChroot } from '../support/lab/e2e-machine.ts';
import { everyNix, requireNix } from '../support/lab/nix-lab.ts';

for (const nix of everyNix()) {
  test(`niche push uploads a .drv itself, built or not, nix ${nix.version}`, async (t) => {
    const machine = await createMachine(t, { nix });
    await machine.writeGraph([
      { name: 'lib' },
      { name: 'built', deps: ['lib'] },
      { name: 'unbuilt', deps: ['lib'] },
    ]);
    const cache = await machine.makeCache();
    await rejectUnclaimed(cache.directory);
    const drv = (part: string): Promise<string> =>
      machine.output('nix-instantiate', ['-A', part, '--quiet']);
    const [built, unbuilt] = [await drv('built'), await drv('unbuilt')];
    const output = await machine.output('nix-build', ['--no-out-link', '-A', 'built']);

    const pushed = await machine.nicheDoes(['push', '-u', cache.url, built, unbuilt]);
    assert.doesNotMatch(pushed.stderr, /warning/);
    assert.deepEqual(await cache.names(), ['built.drv', 'lib.drv', 'unbuilt.drv']);
    // Next to a .drv, other paths are still meant as they are.
    await machine.nicheDoes(['push', '-u', cache.url, unbuilt, output]);
    assert.deepEqual(await cache.names(), ['built', 'built.drv', 'lib', 'lib.drv', 'unbuilt.drv']);
    const absent = unbuilt.replace('unbuilt', 'absent');
    const failed = await machine.niche(['push', '-u', cache.url, unbuilt, absent]);
    assert.match(failed.stderr, /absent\.drv is not in the store/);
    assert.match(failed.stderr, /2 already there/);
    await machine.nicheDoes(['verify', '-u', cache.url]);

    if (skipUnlessChroot(t, machine)) return;
    const reader = await createMachine(t, { nix, trustedPublicKeys: [cache.publicKey] });
    await reader.output('nix', ['copy', '--derivation', '--from', cache.url, unbuilt]);
    await reader.output('nix-store', ['--realise', unbuilt]);
  });
}

async function rejectUnclaimed(directory: string): Promise<void> {
  const file = join(directory, 'niche.json');
  const config = JSON.parse(await readFile(file, 'utf8')) as { limits?: object };
  await writeFile(file, JSON.stringify({ ...config, limits: { unclaimed: 'reject' } }));
}

test('a path with too many references fails alone', async (t) => {
  const nix = requireNix(t);
  if (!nix) return;
  const machine = await createMachine(t, { nix });
  await writeFile(
    join(machine.work, 'default.nix'),
    `let make = name: count: derivation {
       inherit name; system = builtins.currentSystem; builder = "/bin/sh";
       sources = builtins.genList (n: builtins.toFile "source-\${toString n}" "") count;
     }; in { many = make "many" 10001; few = make "few" 1; }`,
  );
  const cache = await machine.makeCache();
  const drvs = await machine.output('nix-instantiate', ['-A', 'many', '-A', 'few', '--quiet']);
  const ran = await machine.niche(['push', '-u', cache.url, '--no-closure', ...drvs.split('\n')]);
  assert.match(ran.stderr, /many\.drv has too many references: expected at most 10000, got 10001/);
  assert.notEqual(ran.status, 0);
  const [source] = (await machine.output('nix-store', ['-qR', drvs.split('\n')[1]!])).split('\n');
  await machine.nicheDoes(['push', '-u', cache.url, source!]);
  assert.deepEqual(await cache.names(), ['few.drv', 'source-0']);
});
