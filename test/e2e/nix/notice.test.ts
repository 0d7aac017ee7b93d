import assert from 'node:assert/strict';
import { chmod, mkdir, readFile, readlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test, type TestContext } from 'node:test';

import { canHideFolders } from '../../support/lab/nix-daemon.ts';
import { graphFlake, nixSystem, type GraphPart } from '../../support/lab/nix-graph.ts';
import { createNixLab, everyNix, type NixLab } from '../../support/lab/nix-lab.ts';
import { note, writeGraph } from './noticing.ts';

const partsOf = (salt: string): readonly GraphPart[] => [
  { name: 'leaf', outputs: ['out', 'dev'] },
  { name: 'fetched', fixedOutput: `contents ${salt}` },
  { name: 'middle', deps: ['leaf', 'fetched'] },
  { name: 'broken', deps: ['middle'], fails: true },
  { name: 'whole', deps: ['middle'] },
  { name: 'imported' },
  { name: 'importer', importsFrom: 'imported', deps: ['leaf'] },
];

for (const version of everyNix()) {
  describe(`detecting built paths with nix ${version.version}`, () => {
    let lab: NixLab;
    let salt = 0;
    before(async () => {
      lab = await createNixLab({ nix: version });
    });
    after(() => lab.close());
    const freshGraph = (): Promise<void> => {
      const text = String(salt++);
      return writeGraph(lab, partsOf(text), text);
    };

    test('a failing nix-build: every built output', async () => {
      await freshGraph();
      const args = ['-A', 'broken', '--no-out-link'];
      const noted = await note(lab, 'nix-build', args);
      assert.notEqual(noted.status, 0);
      assert.deepEqual(noted.namesFrom('hook'), ['fetched', 'leaf', 'leaf-dev', 'middle']);
      assert.deepEqual(noted.names, noted.namesFrom('hook'));
      assert.deepEqual(noted.warnings, []);
      assert.ok(noted.noticed.every(({ drvPath }) => drvPath?.endsWith('.drv')));
    });

    test('outputs of an earlier attempt, although this one fails too', async () => {
      await freshGraph();
      await lab.output('nix-build', ['-A', 'leaf.dev', '--no-out-link']);
      const noted = await note(lab, 'nix-build', ['-A', 'broken', '-o', 'result-x', '-Q']);
      assert.notEqual(noted.status, 0);
      // Paths built before the graph is read may be detected either way.
      assert.deepEqual(noted.names, ['fetched', 'leaf', 'leaf-dev', 'middle']);
      for (const name of ['leaf', 'leaf-dev']) assert.ok(noted.namesFrom('graph').includes(name));
      const again = await note(lab, 'nix-build', ['-A', 'broken']);
      assert.deepEqual(again.namesFrom('graph'), ['fetched', 'leaf', 'leaf-dev', 'middle']);
      assert.ok(again.noticed.every(({ info }) => info?.ultimate === true));
    });

    test('nix build, with links, printed paths and several installables', async () => {
      await freshGraph();
      const links = ['--out-link', 'linked', '--json', '--keep-going'];
      const args = ['build', '-f', 'default.nix', ...links, 'middle', 'broken'];
      const noted = await note(lab, 'nix', args);
      assert.notEqual(noted.status, 0);
      assert.deepEqual(noted.names, ['fetched', 'leaf', 'leaf-dev', 'middle']);
      const whole = ['build', '-f', 'default.nix', 'whole', '-Lo', 'there'];
      const again = await note(lab, 'nix', whole);
      assert.equal(again.status, 0, again.stderr);
      assert.deepEqual(again.namesFrom('hook'), ['whole']);
      assert.deepEqual(again.namesFrom('graph'), ['fetched', 'leaf', 'leaf-dev', 'middle']);
      assert.deepEqual(again.warnings, []);
      assert.match(await readlink(join(lab.work, 'there')), /-whole$/u);
    });

    test('a flake, with and without its lock file', async () => {
      await freshGraph();
      await writeFile(join(lab.work, 'flake.nix'), graphFlake());
      const args = ['build', `path:${lab.work}#middle`, '--no-link'];
      const noted = await note(lab, 'nix', args);
      assert.equal(noted.status, 0, noted.stderr);
      assert.deepEqual(noted.warnings, []);
      assert.deepEqual(noted.namesFrom('hook'), ['fetched', 'leaf', 'leaf-dev', 'middle']);
      const again = await note(lab, 'nix', args);
      assert.deepEqual(again.namesFrom('graph'), ['fetched', 'leaf', 'leaf-dev', 'middle']);
    });

    test('a successful build is not evaluated again, although it builds nothing', async () => {
      const args = [
        ['nix-build', '-A', 'whole', '--no-out-link'],
        ['nix-build', '-A', 'whole', '-QA', 'importer', '-o', 'here'],
        ['nix', 'build', '-f', 'default.nix', 'whole', 'importer'],
        ['nix', 'build', '--no-link', `path:${lab.work}#whole`, `path:${lab.work}#importer`],
      ];
      for (const [program = '', ...rest] of args) {
        await freshGraph();
        await writeFile(join(lab.work, 'flake.nix'), graphFlake());
        await lab.output(program, rest);
        const noted = await note(lab, program, rest);
        assert.equal(noted.status, 0, noted.stderr);
        assert.deepEqual(noted.evaluations, { during: 0, after: 0 });
        const imported = rest.join().includes('importer') ? ['imported', 'importer'] : [];
        const names = ['fetched', ...imported, 'leaf', 'leaf-dev', 'middle', 'whole'];
        // The graph of an importer does not refer to what its evaluation imported.
        assert.deepEqual(
          noted.namesFrom('graph'),
          names.filter((name) => name !== 'imported'),
        );
      }
    });

    test('a failed build is evaluated again after it, unless its evaluation failed', async () => {
      await freshGraph();
      const broken = await note(lab, 'nix-build', ['-A', 'broken', '--no-out-link']);
      assert.deepEqual(broken.evaluations, { during: 0, after: 1 });
      const unknown = await note(lab, 'nix-build', ['-A', 'nothing-of-that-name']);
      assert.deepEqual(unknown.evaluations, { during: 0, after: 0 });
    });

    test('an expression in standard input is read by nix alone', async () => {
      await freshGraph();
      await lab.output('nix-build', ['-A', 'leaf', '--no-out-link']);
      const input = await readFile(join(lab.work, 'default.nix'), 'utf8');
      for (const args of [
        ['nix-build', '-', '-A', 'middle', '--no-out-link'],
        ['nix', 'build', '-f', '-', 'middle', '--no-link'],
      ]) {
        const [program = '', ...rest] = args;
        const noted = await note(lab, program, rest, { input });
        assert.equal(noted.status, 0, noted.stderr);
        assert.deepEqual(noted.names, ['fetched', 'leaf', 'leaf-dev', 'middle']);
        assert.deepEqual(noted.warnings, []);
      }
    });

    test('import from derivation', async () => {
      await freshGraph();
      await lab.output('nix-build', ['-A', 'leaf', '--no-out-link']);
      const args = ['-A', 'importer', '--no-out-link'];
      const noted = await note(lab, 'nix-build', args);
      assert.equal(noted.status, 0, noted.stderr);
      assert.deepEqual(noted.namesFrom('hook'), ['imported', 'importer']);
      assert.deepEqual(noted.namesFrom('graph'), ['leaf', 'leaf-dev']);
      assert.deepEqual(noted.warnings, []);
    });

    test('a path that is built twice is detected once', async () => {
      await freshGraph();
      const twice = 'nix-build -A leaf --no-out-link && nix-build -A leaf --no-out-link --check';
      const noted = await note(lab, 'sh', ['-c', twice]);
      assert.equal(noted.status, 0, noted.stderr);
      assert.deepEqual(noted.names, ['leaf', 'leaf-dev']);
    });

    test('a dry run detects nothing', async () => {
      await freshGraph();
      await lab.output('nix-build', ['-A', 'leaf', '--no-out-link']);
      const noted = await note(lab, 'nix-build', ['-A', 'middle', '--dry-run']);
      assert.deepEqual(noted.names, []);
    });

    test("a failed evaluation: nix's own error is enough", async () => {
      await freshGraph();
      for (const command of [
        ['nix-build', '-A'],
        ['nix', 'build', '-f', 'default.nix'],
      ]) {
        const [program, ...args] = [...command, 'nothing-of-that-name'];
        const noted = await note(lab, program, args);
        assert.notEqual(noted.status, 0);
        assert.deepEqual(noted.warnings, []);
        assert.match(noted.stderr, /nothing-of-that-name/u);
      }
    });

    test('a hook that was already configured runs, and its failure fails the build', async () => {
      await freshGraph();
      const hook = join(lab.folder, "it's a hook");
      await writeFile(hook, `#!/bin/sh\necho "$DRV_PATH" >> "${lab.folder}/hooked"\nexit 3\n`);
      await chmod(hook, 0o755);
      const env = { NIX_CONFIG: `post-build-hook = ${hook}\n# the end` };
      const noted = await note(lab, 'nix-build', ['-A', 'leaf', '--no-out-link'], { env });
      assert.notEqual(noted.status, 0);
      assert.deepEqual(noted.names, ['leaf', 'leaf-dev']);
      const hooked = await readFile(join(lab.folder, 'hooked'), 'utf8');
      assert.equal(hooked, `${noted.noticed[0]!.drvPath}\n`);
    });

    test("a hook set by the command itself is kept: paths are detected in the store's directory", async () => {
      await freshGraph();
      const args = ['-A', 'middle', '--no-out-link', '--option', 'post-build-hook', '/bin/true'];
      const noted = await note(lab, 'nix-build', args);
      assert.equal(noted.status, 0, noted.stderr);
      assert.deepEqual(noted.names, ['fetched', 'leaf', 'leaf-dev', 'middle']);
      assert.equal(noted.warnings.length, 1);
    });

    test('content-addressed outputs', async () => {
      await writeGraph(lab, [{ name: 'floating', contentAddressed: true }], String(salt++));
      const env = { NIX_CONFIG: 'extra-experimental-features = ca-derivations' };
      const noted = await note(lab, 'nix-build', ['-A', 'floating', '--no-out-link'], { env });
      assert.equal(noted.status, 0, noted.stderr);
      assert.deepEqual(noted.names, ['floating']);
      assert.equal(noted.noticed[0]!.path, noted.stdout.trim());
    });

    test('an untrusted user: only the graph of the build', async () => {
      await freshGraph();
      const daemon = await lab.daemon();
      const other = `derivation { name = "other"; system = builtins.currentSystem;
        builder = "/bin/sh"; args = [ "-c" "echo > $out" ]; salt = ${salt}; }`;
      const unrelated = daemon.run('nix-build', ['-E', other, '--no-out-link']);
      await daemon.output('nix-build', ['-A', 'leaf', '--no-out-link']);
      const args = ['build', '-f', 'default.nix', 'broken', '--no-link'];
      const noted = await note(lab, 'nix', args, { daemon });
      await unrelated;
      assert.equal(noted.nix.trusted, false);
      assert.notEqual(noted.status, 0);
      assert.deepEqual(noted.names, ['fetched', 'leaf', 'leaf-dev', 'middle']);
      assert.equal(noted.warnings.length, 1);
      assert.match(noted.warnings[0]!, /does not trust/u);
      assert.ok(noted.noticed.every(({ info }) => info?.ultimate === true));
      if (!noted.nix.settings.hasJsonLog) return;
      assert.deepEqual(noted.namesFrom('log'), ['fetched', 'middle']);
      assert.equal(noted.evaluations.during, 0);
    });

    test('an untrusted user: content-addressed outputs', async () => {
      await writeGraph(lab, [{ name: 'floating', contentAddressed: true }], String(salt++));
      const settings = { 'extra-experimental-features': 'ca-derivations' };
      const daemon = await lab.daemon({ settings });
      const env = { NIX_CONFIG: 'extra-experimental-features = ca-derivations' };
      const args = ['build', '-f', 'default.nix', 'floating', '--no-link'];
      const noted = await note(lab, 'nix', args, { daemon, env });
      assert.equal(noted.status, 0, noted.stderr);
      assert.deepEqual(noted.names, ['floating']);
      assert.equal(noted.warnings.length, 1, noted.warnings.join());
    });

    test('nix-build by an untrusted user is evaluated again with the first path', async () => {
      await freshGraph();
      const daemon = await lab.daemon();
      const args = ['-A', 'middle', '--no-out-link'];
      const noted = await note(lab, 'nix-build', args, { daemon });
      assert.equal(noted.status, 0, noted.stderr);
      assert.deepEqual(noted.names, ['fetched', 'leaf', 'leaf-dev', 'middle']);
      assert.equal(noted.evaluations.during + noted.evaluations.after, 1);
    });

    test('an untrusted user running any command: every path that this machine builds', async () => {
      await freshGraph();
      const daemon = await lab.daemon();
      const built = 'nix-build -A middle --no-out-link';
      const noted = await note(lab, 'sh', ['-c', built], { daemon });
      assert.equal(noted.status, 0, noted.stderr);
      assert.deepEqual(noted.namesFrom('store'), ['fetched', 'leaf', 'leaf-dev', 'middle']);
      assert.match(noted.warnings.join(), /other builds/u);
    });

    test('a trusted user of a daemon: through the hook', async () => {
      await freshGraph();
      const daemon = await lab.daemon({ trustedUsers: ['*'] });
      const args = ['-A', 'middle', '--no-out-link'];
      const noted = await note(lab, 'nix-build', args, { daemon });
      assert.equal(noted.nix.trusted, true);
      assert.equal(noted.status, 0, noted.stderr);
      assert.deepEqual(noted.namesFrom('hook'), ['fetched', 'leaf', 'leaf-dev', 'middle']);
      assert.deepEqual(noted.warnings, []);
    });

    test('an untrusted user: the outputs of remote builders', async () => {
      const settings = {
        'max-jobs': '0',
        // A store in another folder stands for one on another machine.
        builders: `${lab.folder}/builder ${nixSystem} - 1 1 - -`,
      };
      const daemon = await lab.daemon({ settings });
      const commands = [
        ['sh', '-c', 'nix-build -A middle --no-out-link'],
        ['nix-build', '-A', 'middle', '--no-out-link'],
        ['nix', 'build', '-f', 'default.nix', 'middle', '--no-link'],
      ];
      for (const [command = '', ...args] of commands) {
        await freshGraph();
        const noted = await note(lab, command, args, { daemon });
        assert.equal(noted.status, 0, noted.stderr);
        assert.deepEqual(noted.names, ['fetched', 'leaf', 'leaf-dev', 'middle']);
        const middle = noted.noticed.find(({ path }) => path.endsWith('-middle'));
        assert.equal(middle?.info?.ultimate, false);
      }
    });

    /** Everywhere that niche may put its hook. */
    const hookFolders = () => ['/tmp', '/var/tmp', lab.env['TMPDIR']!, lab.env['XDG_CACHE_HOME']!];

    test('a daemon that does not see the hook builds all the same', async (t) => {
      if (skipUnlessHiding(t)) return;
      await freshGraph();
      await mkdir(lab.env['XDG_CACHE_HOME']!, { recursive: true });
      const daemon = await lab.daemon({ trustedUsers: ['*'], hiddenFolders: hookFolders() });
      const noted = await note(lab, 'nix-build', ['-A', 'middle', '--no-out-link'], { daemon });
      assert.equal(noted.nix.trusted, true);
      assert.equal(noted.status, 0, noted.stderr);
      assert.deepEqual(noted.names, ['fetched', 'leaf', 'leaf-dev', 'middle']);
      assert.equal(noted.warnings.length, 1, noted.warnings.join());
      assert.match(
        noted.warnings[0]!,
        /^nix cannot run a post-build hook: .*: finding built paths/u,
      );
    });

    test('a daemon that sees only another folder runs the hook there', async (t) => {
      if (skipUnlessHiding(t)) return;
      await freshGraph();
      const [, ...hiddenFolders] = hookFolders();
      const daemon = await lab.daemon({ trustedUsers: ['*'], hiddenFolders });
      const args = ['-A', 'middle', '--no-out-link'];
      const noted = await note(lab, 'nix-build', args, { daemon });
      assert.equal(noted.status, 0, noted.stderr);
      assert.deepEqual(noted.namesFrom('hook'), ['fetched', 'leaf', 'leaf-dev', 'middle']);
      assert.deepEqual(noted.warnings, []);
    });

    test('a relative TMPDIR', async () => {
      await freshGraph();
      const daemon = await lab.daemon({ trustedUsers: ['*'] });
      await mkdir(join(lab.work, 'temporary'), { recursive: true });
      const env = { TMPDIR: 'temporary' };
      // Nix 2.8.0's nix-build refuses a relative TMPDIR.
      const args = ['build', '-f', 'default.nix', 'middle', '--no-link'];
      const noted = await note(lab, 'nix', args, { daemon, env });
      assert.equal(noted.status, 0, noted.stderr);
      assert.deepEqual(noted.namesFrom('hook'), ['fetched', 'leaf', 'leaf-dev', 'middle']);
      assert.deepEqual(noted.warnings, []);
    });
  });
}

function skipUnlessHiding(t: TestContext): boolean {
  if (canHideFolders()) return false;
  t.skip('this user cannot make a mount namespace');
  return true;
}
