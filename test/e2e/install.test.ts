import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { copyFile, readFile, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { describe, test, type TestContext } from 'node:test';

import {
  createMachine,
  createYard,
  skipUnlessChroot,
  type DirectoryCache,
  type Machine,
} from '../support/lab/e2e-machine.ts';
import { everyNix, type NixVersion } from '../support/lab/nix-lab.ts';
import { serveFolder } from '../support/servers/static-server.ts';

interface Published {
  readonly builder: Machine;
  readonly cache: DirectoryCache;
  /** Creates a machine with an empty store and the builder's `default.nix`. */
  readonly emptyMachine: (trustedPublicKeys?: readonly string[]) => Promise<Machine>;
  readonly traces: () => Promise<readonly string[]>;
  readonly lower: string;
  readonly upper: string;
}

/** Creates a cache with `upper` and its reference `lower`. */
async function published(
  t: TestContext,
  nix: NixVersion,
  flags: readonly string[] = [],
): Promise<Published> {
  const yard = await createYard(t);
  const machine = async (trustedPublicKeys: readonly string[] = []): Promise<Machine> => {
    const made = await createMachine(t, { nix, trustedPublicKeys, settings: yard.settings });
    await made.writeGraph([
      { name: 'lower', bytes: 300_000, script: yard.trace('lower') },
      { name: 'upper', deps: ['lower'], script: yard.trace('upper') },
    ]);
    return made;
  };
  const builder = await machine();
  const cache = await builder.makeCache();
  const built = await builder.nicheDoes([
    ...['build', '-u', cache.url, ...flags, '--'],
    ...['-f', 'default.nix', 'upper', '--out-link', 'link'],
  ]);
  assert.match(built.stderr, /^niche: 2 paths published/m);
  const upper = await builder.output('readlink', ['link']);
  const lower = (await cache.paths()).find((path) => path !== upper) ?? '';
  return { builder, cache, emptyMachine: machine, traces: () => yard.traces(), lower, upper };
}

for (const nix of everyNix()) {
  describe(`installing, nix ${nix.version}`, { concurrency: false }, () => {
    test('an empty store substitutes the closure from the directory and over HTTP, with signatures checked', async (t) => {
      const { builder, cache, emptyMachine, traces, upper, lower } = await published(t, nix);
      const trust = ['--option', 'trusted-public-keys', cache.publicKey];
      await builder.output('nix', ['store', 'verify', '-r', '--store', cache.url, ...trust, upper]);
      const distrusted = await builder.run('nix', [
        ...['store', 'verify', '-r', '--store', cache.url, upper],
      ]);
      assert.match(distrusted.stderr, /untrusted/);
      if (skipUnlessChroot(t, builder)) return;

      const copier = await emptyMachine();
      const refused = await copier.run('nix', ['copy', '--from', cache.url, upper]);
      assert.notEqual(refused.status, 0);
      assert.match(refused.stderr, /signature/);
      await copier.output('nix', ['copy', '--from', cache.url, ...trust, upper]);
      await copier.output('nix', ['store', 'verify', '-r', ...trust, upper]);
      await copier.output('nix-store', ['--verify', '--check-contents']);
      assert.deepEqual(
        await readFile(join(copier.realPath(lower), 'big')),
        await readFile(join(builder.realPath(lower), 'big')),
      );

      const server = await serveFolder(cache.directory);
      t.after(() => server.close());
      const reader = await emptyMachine();
      const { status, stdout, stderr } = await reader.run('nix-build', [
        ...['--no-out-link', '-A', 'upper', '--option', 'substituters', server.url, ...trust],
      ]);
      assert.equal(status, 0, stderr);
      assert.equal(stdout.trim(), upper);
      assert.ok(existsSync(reader.realPath(lower)));
      await reader.output('nix-store', ['--verify', '--check-contents']);
      assert.deepEqual((await traces()).length, 2);
    });

    test('nix rejects a tampered cache', async (t) => {
      const { builder, cache, emptyMachine, upper, lower } = await published(t, nix);
      if (skipUnlessChroot(t, builder)) return;
      const narInfoOf = (path: string): string => {
        const [hash = ''] = basename(path).split('-');
        return join(cache.directory, `${hash}.narinfo`);
      };
      const narInfo = await readFile(narInfoOf(lower), 'utf8');
      const nar = join(cache.directory, /^URL: (.+)$/m.exec(narInfo)?.[1] ?? '');
      const otherNarInfo = await readFile(narInfoOf(upper), 'utf8');
      const otherNar = join(cache.directory, /^URL: (.+)$/m.exec(otherNarInfo)?.[1] ?? '');
      const write = (pattern: RegExp, line: string) => (): Promise<void> =>
        writeFile(narInfoOf(lower), narInfo.replace(pattern, line));
      const tampered: readonly [string, () => Promise<void>, RegExp][] = [
        ['a hash', write(/^NarHash: .+$/m, `NarHash: sha256:${'0'.repeat(52)}`), /signature/],
        ['a reference', write(/^References:.*$/m, `References: ${basename(lower)}`), /signature/],
        ['no signature', write(/^Sig: .+\n/m, ''), /signature/],
        ['a NAR', () => copyFile(otherNar, nar), /hash mismatch/],
      ];
      const original = await readFile(nar);
      for (const [what, tamper, message] of tampered) {
        await tamper();
        const reader = await emptyMachine([cache.publicKey]);
        const { status, stderr } = await reader.run('nix', ['copy', '--from', cache.url, lower]);
        assert.notEqual(status, 0, what);
        assert.match(stderr, message);
        // Nix may leave files of a rejected path, but does not register them as valid.
        const validity = await reader.run('nix-store', ['--check-validity', lower]);
        assert.notEqual(validity.status, 0, what);
        await writeFile(narInfoOf(lower), narInfo);
        await writeFile(nar, original);
      }
      const reader = await emptyMachine([cache.publicKey]);
      await reader.output('nix', ['copy', '--from', cache.url, lower]);
    });

    test('the cache has the build logs, unless they are disabled', async (t) => {
      const { builder, cache, upper } = await published(t, nix);
      const logOf = (url: string): ReturnType<Machine['run']> =>
        builder.run('nix', ['log', '--store', url, upper]);
      const shown = await logOf(cache.url);
      assert.equal(shown.status, 0, shown.stderr);
      assert.match(shown.stdout, /^building upper$/m);

      const quiet = await builder.makeCache('quiet');
      await builder.nicheDoes(['push', '-u', quiet.url, '--no-logs', upper]);
      assert.deepEqual(await quiet.names(), ['lower', 'upper']);
      assert.equal(existsSync(join(quiet.directory, 'log')), false);
      assert.notEqual((await logOf(quiet.url)).status, 0);
    });
  });
}
