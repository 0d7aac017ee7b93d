import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { graph, graphFlake } from './nix-graph.ts';
import { createNixLab, everyNix, type NixLab } from './nix-lab.ts';
import { serveFolder, type StaticServer } from '../servers/static-server.ts';

const twoParts = graph([{ name: 'lower' }, { name: 'upper', deps: ['lower'] }]);

async function labFor(
  t: TestContext,
  options: Parameters<typeof createNixLab>[0],
  defaultNix = twoParts,
): Promise<NixLab> {
  const lab = await createNixLab(options);
  t.after(() => lab.close());
  await writeFile(join(lab.work, 'default.nix'), defaultNix);
  return lab;
}

async function served(t: TestContext, folder: string): Promise<StaticServer> {
  const server = await serveFolder(folder);
  t.after(() => server.close());
  return server;
}

for (const nix of everyNix()) {
  describe(`nix ${nix.version}`, { concurrency: false }, () => {
    test('every command answers with this version', async (t) => {
      const lab = await labFor(t, { nix });
      for (const command of ['nix', 'nix-build', 'nix-store', 'nix-instantiate', 'nix-daemon']) {
        assert.match(await lab.output(command, ['--version']), new RegExp(` ${nix.version}$`));
      }
    });

    for (const kind of ['chroot', 'own-store-dir'] as const) {
      test(`a ${kind} lab builds, and removes everything it created`, async (t) => {
        const best = await createNixLab({ nix });
        await best.close();
        if (kind === 'chroot' && best.kind !== kind) {
          t.skip('this user cannot make the namespaces that building in a chroot store takes');
          return;
        }
        const lab = await createNixLab({ nix, kind });
        try {
          await writeFile(join(lab.work, 'default.nix'), twoParts);
          const upper = await lab.output('nix-build', ['--no-out-link', '-A', 'upper']);
          assert.ok(upper.startsWith(`${lab.storeDir}/`));
          assert.equal(lab.storeDir === '/nix/store', kind === 'chroot');
          const [name, lower] = (await readFile(join(lab.realPath(upper), 'name'), 'utf8'))
            .trim()
            .split(' ');
          assert.equal(name, 'upper');
          const references = await lab.output('nix-store', ['-q', '--references', upper]);
          assert.equal(references, lower);
        } finally {
          await lab.close();
        }
        assert.equal(existsSync(lab.folder), false);
      });
    }

    test('the graph has the requested outputs, failures, fixed outputs, imports and sizes', async (t) => {
      const features = ['nix-command', 'flakes', 'ca-derivations'];
      const lab = await labFor(
        t,
        { nix, experimentalFeatures: features },
        graph(
          [
            { name: 'many', outputs: ['out', 'dev'], bytes: 100_000 },
            { name: 'fixed', fixedOutput: 'a "quoted" ${text}\\\n' },
            { name: 'imports', importsFrom: 'many', deps: ['fixed'], script: 'echo $imported' },
            { name: 'broken', fails: true, sleepSeconds: 0.01, deps: ['many'] },
            { name: 'addressed', contentAddressed: true, deps: ['fixed'] },
          ],
          'salt',
        ),
      );
      const built = await lab.output('nix-build', ['--no-out-link', '-A', 'many']);
      const big = await readFile(join(lab.realPath(built), 'big'));
      assert.equal(big.length, 100_000);
      const dev = await lab.output('nix-build', ['--no-out-link', '-A', 'many.dev']);
      assert.match(dev, /-many-dev$/);

      const fixed = await lab.output('nix-build', ['--no-out-link', '-A', 'fixed']);
      assert.equal(await readFile(lab.realPath(fixed), 'utf8'), 'a "quoted" ${text}\\\n');
      await lab.output('nix-build', ['--no-out-link', '-A', 'imports']);
      await lab.output('nix-build', ['--no-out-link', '-A', 'addressed']);

      const broken = await lab.run('nix-build', ['--no-out-link', '-A', 'broken']);
      assert.notEqual(broken.status, 0);
      assert.match(broken.stderr, /broken fails on purpose/);
    });

    test('a flake without inputs builds offline', async (t) => {
      const lab = await labFor(t, { nix });
      await writeFile(join(lab.work, 'flake.nix'), graphFlake());
      const args = ['build', '--no-link', '--json', 'path:.#upper'];
      const [built] = JSON.parse(await lab.output('nix', args)) as { outputs: { out: string } }[];
      const expected = await lab.output('nix-build', ['--no-out-link', '-A', 'upper']);
      assert.equal(built!.outputs.out, expected);
    });

    test('substitution accepts a signed cache and refuses an unsigned one', async (t) => {
      const maker = await labFor(t, { nix });
      if (maker.kind !== 'chroot') {
        t.skip('this user cannot build below /nix/store, and no two labs share another folder');
        return;
      }
      const secretKey = join(maker.folder, 'secret');
      await maker.output('nix-store', [
        ...['--generate-binary-cache-key', 'lab-1', secretKey, join(maker.folder, 'public')],
      ]);
      const publicKey = (await readFile(join(maker.folder, 'public'), 'utf8')).trim();
      const upper = await maker.output('nix-build', ['--no-out-link', '-A', 'upper']);

      const unsigned = join(maker.folder, 'unsigned');
      const signed = join(maker.folder, 'signed');
      await maker.output('nix', ['copy', '--to', `file://${unsigned}`, upper]);
      await maker.output('nix', [
        'copy',
        '--to',
        `file://${signed}?secret-key=${secretKey}`,
        upper,
      ]);
      const overHttp = await served(t, signed);

      for (const [cache, accepted] of [
        [`file://${unsigned}`, false],
        [(await served(t, unsigned)).url, false],
        [`file://${signed}`, true],
        [overHttp.url, true],
      ] as const) {
        const reader = await labFor(t, {
          nix,
          trustedPublicKeys: [publicKey],
          settings: { substituters: cache },
        });
        const { status, stderr } = await reader.run('nix-store', ['--realise', upper]);
        assert.equal(status === 0, accepted, `${cache}: ${stderr}`);
        assert.equal(existsSync(join(reader.realPath(upper), 'name')), accepted);
        const copied = await reader.run('nix', ['copy', '--from', cache, upper]);
        assert.equal(copied.status === 0, accepted, `${cache}: ${copied.stderr}`);
        if (accepted) {
          await reader.output('nix', ['store', 'verify', '-r', upper]);
        } else {
          assert.match(stderr + copied.stderr, /signature/);
        }
      }
      assert.ok(overHttp.requests.includes('GET /nix-cache-info'));
    });

    for (const trusted of [true, false]) {
      test(`a daemon's client is ${trusted ? 'trusted' : 'untrusted'} as configured`, async (t) => {
        const lab = await labFor(t, { nix });
        const daemon = await lab.daemon({ trustedUsers: trusted ? ['*'] : [] });
        const upper = await daemon.output('nix-build', ['--no-out-link', '-A', 'upper']);
        assert.ok(existsSync(join(lab.realPath(upper), 'name')));
        assert.match(await daemon.output('nix', ['log', upper]), /building upper/);

        const option = ['--option', 'substituters', 'http://niche.invalid/'];
        const ping = await daemon.run('nix', ['store', 'ping', ...option]);
        assert.equal(ping.stderr.includes('ignoring untrusted substituter'), !trusted, ping.stderr);
        if (!nix.version.startsWith('2.8.')) {
          const info = JSON.parse(await daemon.output('nix', ['store', 'ping', '--json'])) as {
            readonly trusted: boolean | number;
          };
          assert.equal(Boolean(info.trusted), trusted);
        }
        assert.equal((await daemon.log()).includes('(trusted)'), trusted);
      });
    }

    test('a daemon refuses users that are not allowed', async (t) => {
      const lab = await labFor(t, { nix });
      const daemon = await lab.daemon({ allowedUsers: [] });
      const { status } = await daemon.run('nix-build', ['--no-out-link', '-A', 'upper']);
      assert.notEqual(status, 0);
    });
  });
}
