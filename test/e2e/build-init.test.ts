import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';

import { createMachine } from '../support/lab/e2e-machine.ts';
import { requireNix } from '../support/lab/nix-lab.ts';

describe('niche init, on a machine with Nix', { concurrency: false }, () => {
  test('prints the key and what comes next, and keeps the secret to this user', async (t) => {
    const nix = requireNix(t);
    if (nix === null) return;
    const machine = await createMachine(t, { nix });
    const directory = join(machine.folder, 'cache');
    const { stdout } = await machine.nicheDoes(['init', `file://${directory}`, '--name', 'acme']);

    const publicKey = /^public key: (acme-1:\S+)$/m.exec(stdout)?.[1];
    const secretKeyFile = /^secret key: (\S+) \(new/m.exec(stdout)?.[1];
    assert.ok(publicKey !== undefined && secretKeyFile !== undefined, stdout);
    assert.match(stdout, new RegExp(`^  niche use file://${directory}$`, 'm'));
    assert.match(stdout, new RegExp(`^  niche build -u file://${directory} -- \\.#default$`, 'm'));
    assert.ok(secretKeyFile.startsWith(join(machine.env['XDG_CONFIG_HOME'] ?? '', 'niche/')));
    const { mode } = await stat(secretKeyFile);
    assert.equal(mode & 0o777, 0o600);

    const derived = await machine.output('nix', ['key', 'convert-secret-to-public'], {
      input: await readFile(secretKeyFile),
    });
    assert.equal(derived, publicKey);
    const info = await readFile(join(directory, 'nix-cache-info'), 'utf8');
    assert.match(info, new RegExp(`^StoreDir: ${machine.storeDir}$`, 'm'));
    await machine.output('nix', ['store', 'ping', '--store', `file://${directory}`]);
  });

  test('takes a key that Nix made, and leaves a cache that is there as it is', async (t) => {
    const nix = requireNix(t);
    if (nix === null) return;
    const machine = await createMachine(t, { nix });
    const secretKeyFile = join(machine.folder, 'nix.secret');
    const publicKeyFile = join(machine.folder, 'nix.public');
    await machine.output('nix-store', [
      ...['--generate-binary-cache-key', 'made-by-nix', secretKeyFile, publicKeyFile],
    ]);
    const secretKey = await readFile(secretKeyFile, 'utf8');
    const cache = await machine.makeCache('acme', ['--secret-key-file', secretKeyFile]);
    assert.equal(cache.publicKey, (await readFile(publicKeyFile, 'utf8')).trim());
    assert.equal(await readFile(secretKeyFile, 'utf8'), secretKey);

    const before = await cache.snapshot();
    const again = await machine.niche(['init', cache.url, '--name', 'other']);
    assert.equal(again.status, 1);
    assert.equal(again.stdout, '');
    assert.match(again.stderr, /^niche: there is a cache at file:.* already$/m);
    assert.deepEqual(await cache.snapshot(), before);
    // A key for a cache that was not made would be taken for one that matters.
    const keys = join(machine.env['XDG_CONFIG_HOME'] ?? '', 'niche/keys');
    assert.equal(existsSync(join(keys, 'other-1.secret')), false);
  });

  test('refuses what is no secret key, and makes nothing', async (t) => {
    const nix = requireNix(t);
    if (nix === null) return;
    const machine = await createMachine(t, { nix });
    const file = join(machine.folder, 'no-key');
    await writeFile(file, 'acme-1:bm8ga2V5\n');
    const directory = join(machine.folder, 'cache');
    const refused = await machine.niche([
      ...['init', `file://${directory}`, '--name', 'acme', '--secret-key-file', file],
    ]);
    assert.equal(refused.status, 1);
    assert.match(refused.stderr, new RegExp(`^niche: invalid secret key in "${file}": `));
    assert.equal(existsSync(directory), false);
  });
});
