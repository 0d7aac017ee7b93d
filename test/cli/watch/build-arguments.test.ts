import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { chosenStore, graphQueryOf, hasOwnHook } from '../../../cli/watch/build-arguments.ts';
import { createNixLab, everyNix } from '../../support/lab/nix-lab.ts';

const ask = (line: string): ReturnType<typeof graphQueryOf> => {
  const [command = '', ...args] = line.split(' ');
  return graphQueryOf(command, args, '/nix/store');
};
const own = ['path-info', '--derivation', '--no-write-lock-file'];

test('nix build: passes on all arguments except build options', () => {
  assert.deepEqual(ask('nix build .#a --no-link -L --impure --arg x 1 -o there --rebuild -j 4'), {
    drvPaths: [],
    evaluation: {
      tool: 'nix',
      before: [...own, '.#a', '-L', '--impure', '--arg', 'x', '1', '-j', '4'],
      after: [],
    },
  });
  assert.deepEqual(ask('/x/nix --option a b -L build -Lo there -- --no-link')?.evaluation, {
    tool: 'nix',
    before: ['--option', 'a', 'b', '-L', ...own, '-L'],
    after: ['--', '--no-link'],
  });
});

test('nix-build: returns its expressions or its derivations', () => {
  assert.deepEqual(ask('nix-build x.nix -A a.b --no-out-link --check -K')?.evaluation, {
    tool: 'nix-instantiate',
    before: ['x.nix', '-A', 'a.b', '-K'],
    after: [],
  });
  assert.deepEqual(ask('nix-build /nix/store/abc-x.drv /nix/store/def-y.drv!dev -o z'), {
    drvPaths: ['/nix/store/abc-x.drv', '/nix/store/def-y.drv'],
    evaluation: null,
  });
});

test('returns null for commands that build nothing or are unknown', () => {
  for (const line of [
    'nix build --dry-run .#a',
    'nix build --stdin',
    'nix build -f - x',
    'nix-build - -A x',
    'nix run .#a -- build',
    'nix --unknown build',
    'nix --offline run build',
    'nix',
    'nix-build --help',
    'nix-shell -p x',
    'make build',
  ]) {
    assert.equal(ask(line), null, line);
  }
});

test('finds a hook or a store in the arguments', () => {
  assert.ok(hasOwnHook(['--option', 'post-build-hook', '/x']));
  assert.ok(hasOwnHook(['--post-build-hook', '/x']));
  assert.ok(!hasOwnHook(['--option', 'cores', 'post-build-hook']));
  const args = ['a', '--store', '/x', '--option', 'store', '/y', '--eval-store', '/z'];
  assert.equal(chosenStore(args, 'store'), '/y');
  assert.equal(chosenStore(args, 'eval-store'), '/z');
  assert.equal(chosenStore(['--option', 'cores', '1'], 'store'), undefined);
});

interface Flag {
  readonly labels?: readonly string[];
  readonly shortName?: string;
}

describe('flags of real nix', () => {
  for (const nix of everyNix()) {
    test(`drops flags that only nix build ${nix.version} accepts`, async (t) => {
      const lab = await createNixLab({ nix, kind: 'own-store-dir' });
      t.after(() => lab.close());
      const dumped = await lab.run('nix', ['__dump-cli']);
      const text = dumped.status === 0 ? dumped.stdout : await lab.output('nix', ['__dump-args']);
      const document = JSON.parse(text) as Record<string, unknown>;
      const { commands } = ('commands' in document ? document : document['args']) as {
        readonly commands: Record<string, { readonly flags: Record<string, Flag> }>;
      };
      const buildFlags = Object.entries(commands['build']!.flags);
      const onlyBuild = buildFlags.filter(([name]) => !(name in commands['path-info']!.flags));
      assert.ok(onlyBuild.length > 3);
      for (const [name, { labels = [], shortName }] of onlyBuild) {
        for (const flag of [`--${name}`, ...(shortName ? [`-${shortName}`] : [])]) {
          const question = graphQueryOf('nix', ['build', flag, ...labels, 'x'], '/nix/store');
          if (name === 'dry-run') assert.equal(question, null);
          else assert.deepEqual(question?.evaluation?.before, [...own, 'x'], flag);
        }
      }
    });
  }
});
