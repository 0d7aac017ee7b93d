import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';

import { runNiche, startNiche } from '../support/lab/niche-process.ts';
import { everyNix } from '../support/lab/nix-lab.ts';
import { makeReader, publishCache } from './reading.ts';

for (const nix of everyNix()) {
  describe(`nix ${nix.version} reads from niche serve`, () => {
    test('a closure, with signatures checked', async (t) => {
      const cache = await publishCache(t, nix);
      if (cache === null) return;
      const { storePath, publicKey } = cache;
      const server = await startNiche(['serve', cache.directory, '--port', '0', '--log']);
      const url = server.firstLine;
      try {
        const copier = await makeReader(t, nix);
        const unsigned = await copier.run('nix', ['copy', '--from', url, storePath]);
        assert.notEqual(unsigned.status, 0);
        assert.match(unsigned.stderr, /signature/);
        const trust = ['--option', 'trusted-public-keys', publicKey];
        await copier.output('nix', ['copy', '--from', url, ...trust, storePath]);
        assert.ok(existsSync(join(copier.realPath(storePath), 'name')));
        await copier.output('nix', ['store', 'verify', '-r', ...trust, storePath]);
        await copier.output('nix-store', ['--verify', '--check-contents']);

        const builder = await makeReader(t, nix);
        const built = await builder.run('nix-build', [
          ...['--no-out-link', '-A', 'upper', '--option', 'substituters', url, ...trust],
        ]);
        assert.equal(built.status, 0, built.stderr);
        assert.equal(built.stdout.trim(), storePath);
        assert.match(built.stderr, /copying path/);
        assert.doesNotMatch(built.stderr, /building '/);
      } finally {
        const { status, stderr } = await server.stop();
        assert.equal(status, 0);
        assert.match(stderr, /"\/nix-cache-info" 200/);
        assert.doesNotMatch(stderr, /" 5[0-9][0-9]/);
      }
    });

    test('niche use configures a reader', async (t) => {
      const cache = await publishCache(t, nix);
      if (cache === null) return;
      const server = await startNiche(['serve', cache.directory, '--port', '0']);
      try {
        const reader = await makeReader(t, nix);
        const use = ['use', `${server.firstLine}#${cache.publicKey}`, '--path', cache.storePath];
        const run = { cwd: reader.work, env: reader.env };
        const told = await runNiche([...use, '--json'], run);
        assert.equal(told.status, 0, told.stderr);
        const { obstacles } = JSON.parse(told.stdout) as { obstacles: { code: string }[] };
        assert.deepEqual(
          obstacles.map(({ code }) => code),
          ['substituter-missing', 'key-missing'],
        );
        assert.notEqual((await reader.run('nix-store', ['--realise', cache.storePath])).status, 0);

        const written = await runNiche([...use, '--write'], run);
        assert.equal(written.status, 0, written.stderr);
        assert.match(written.stdout, /Nix accepts the cache/);
        await reader.output('nix-store', ['--realise', cache.storePath]);
        assert.ok(existsSync(join(reader.realPath(cache.storePath), 'name')));
      } finally {
        await server.stop();
      }
    });
  });
}
