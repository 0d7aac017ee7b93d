import assert from 'node:assert/strict';
import { lstatSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';

import { createMachine } from '../support/lab/e2e-machine.ts';
import type { DirectoryCache, Machine } from '../support/lab/e2e-machine.ts';
import { nixSystem } from '../support/lab/nix-graph.ts';
import type { GraphPart } from '../support/lab/nix-graph.ts';
import { everyNix } from '../support/lab/nix-lab.ts';

const experimentalFeatures = ['nix-command', 'flakes', 'ca-derivations'];
const ca = { contentAddressed: true };

/** A chain of content-addressed derivations, and one that is not and depends on them. */
const chain: readonly GraphPart[] = [
  { name: 'root', ...ca, outputs: ['out', 'dev'] },
  { name: 'dependent', ...ca, deps: ['root'] },
  { name: 'transitive', ...ca, deps: ['dependent'] },
  { name: 'fixed', fixedOutput: 'fixed' },
  { name: 'plain', deps: ['transitive', 'fixed'] },
];

/** The derivations of Nix's test ca/issue-13247: `a-prime` has the same output as `a`. */
const multipleOutputs = `let
  make = attributes: derivation ({
    system = "${nixSystem}";
    builder = "/bin/sh";
    PATH = "/usr/bin:/bin";
    __contentAddressed = true;
    outputHashMode = "recursive";
    outputHashAlgo = "sha256";
  } // attributes);
  single = note: make {
    name = "issue-13247-a";
    inherit note;
    args = [ "-euc" "mkdir $out; echo output > $out/file" ];
  };
  use = dep: make {
    name = "use-a-more-outputs";
    outputs = [ "first" "second" ];
    inherit dep;
    args = [ "-euc" "ln -s $dep/file $first; ln -s $first $second" ];
  };
in rec {
  a = single "one";
  a-prime = single "other";
  use-a = use a;
  use-a-prime = use a-prime;
}
`;

for (const nix of everyNix()) {
  const minor = Number(nix.version.split('.')[1]);

  async function machine(t: TestContext, cache?: DirectoryCache): Promise<Machine> {
    if (!cache) return createMachine(t, { nix, experimentalFeatures });
    return createMachine(t, {
      nix,
      experimentalFeatures,
      trustedPublicKeys: [cache.publicKey],
      settings: { substituters: cache.url, 'require-sigs': 'true' },
    });
  }

  describe(`content-addressed derivations, nix ${nix.version}`, { concurrency: false }, () => {
    test('a reader substitutes them and their dependents without building', async (t) => {
      const builder = await machine(t);
      await builder.writeGraph(chain);
      const cache = await builder.makeCache();
      const build = ['build', '-u', cache.url, '--', '-f', 'default.nix', '--no-link', 'plain'];
      const first = await builder.nicheDoes(build);
      assert.match(first.stderr, /; [0-9]+ realisations published in/);
      const again = await builder.nicheDoes(build);
      assert.doesNotMatch(again.stderr, /realisation/);
      await builder.nicheDoes(['verify', '-u', cache.url]);

      for (const attribute of ['plain', 'root']) {
        const reader = await machine(t, cache);
        await reader.writeGraph(chain);
        const args = ['build', '-f', 'default.nix', '--no-link', '--max-jobs', '0', attribute];
        await reader.output('nix', args);
        const info = ['realisation', 'info', '-f', 'default.nix', attribute];
        assert.match(await reader.output('nix', info), /^sha256:[0-9a-f]{64}!out /m);
      }

      // nix copy verifies the signatures of realisations too.
      const copy = ['copy', '--from', cache.url, '-f', 'default.nix', 'dependent'];
      const reader = await machine(t, cache);
      await reader.writeGraph(chain);
      const wrongKeys = ['--option', 'trusted-public-keys', `other-1:${'A'.repeat(43)}=`];
      const refused = await reader.run('nix', [...copy, ...wrongKeys]);
      assert.notEqual(refused.status, 0);
      assert.match(refused.stderr, /lacks a (valid )?signature|not signed by any of the keys/);
      await reader.output('nix', copy);
    });

    test('a reader gets only the output that it requests, also by early cut-off', async (t) => {
      if (minor < 26) {
        t.skip('this Nix substitutes all outputs');
        return;
      }
      const builder = await machine(t);
      await writeFile(join(builder.work, 'default.nix'), multipleOutputs);
      const cache = await builder.makeCache();
      const build = ['-f', 'default.nix', '--no-link', 'a', 'a-prime', 'use-a^*'];
      await builder.nicheDoes(['build', '-u', cache.url, '--', ...build]);
      const early = minor >= 34 ? ['use-a-prime'] : [];
      for (const attribute of ['use-a', ...early]) {
        const reader = await machine(t, cache);
        await writeFile(join(reader.work, 'default.nix'), multipleOutputs);
        const args = ['build', '-f', 'default.nix', '--no-link', '--max-jobs', '0', '--json'];
        const printed = await reader.output('nix', [...args, `${attribute}^first`]);
        const [{ outputs }] = JSON.parse(printed) as [{ outputs: Record<string, string> }];
        const names = (await cache.paths()).filter((path) => path.includes('use-a-more'));
        assert.equal(names.length, 2, names.join());
        for (const path of names) {
          const found = lstatSync(reader.realPath(path), { throwIfNoEntry: false });
          assert.equal(found !== undefined, path === outputs['first'], path);
        }
        await rm(join(reader.work, 'default.nix'));
      }
    });

    test('outputs that a failing build did not use are uploaded', async (t) => {
      const builder = await machine(t);
      await builder.writeGraph([
        { name: 'lower', ...ca },
        { name: 'both', ...ca, deps: ['lower'], outputs: ['out', 'dev'] },
        { name: 'top', ...ca, deps: ['both'], fails: true },
      ]);
      const names = ['both', 'both-dev', 'lower'];
      const build = (url: string): string[] => [
        'build',
        '-u',
        url,
        '--',
        '-f',
        'default.nix',
        'top',
      ];
      const cache = await builder.makeCache();
      await builder.niche(build(cache.url));
      assert.deepEqual(await cache.names(), names);
      // Nothing is built this time.
      const later = await builder.makeCache('later');
      await builder.niche(build(later.url));
      assert.deepEqual(await later.names(), names);
    });

    test('niche push uploads the realisations of what it pushes', async (t) => {
      const builder = await machine(t);
      await builder.writeGraph(chain);
      const path = await builder.output('nix-build', ['--no-out-link', '-A', 'dependent']);
      const cache = await builder.makeCache();
      const pushed = await builder.nicheDoes(['push', '-u', cache.url, path]);
      assert.match(pushed.stderr, /2 paths published .*; 2 realisations published/);
      const reader = await machine(t, cache);
      await reader.writeGraph(chain);
      const args = ['build', '-f', 'default.nix', '--no-link', '--max-jobs', '0', 'dependent'];
      await reader.output('nix', args);
    });
  });
}
