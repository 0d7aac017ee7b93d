import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test, type TestContext } from 'node:test';

import { createMachine, nameOf, type Machine } from '../support/lab/e2e-machine.ts';
import { graphFlake } from '../support/lab/nix-graph.ts';
import { everyNix, type NixVersion } from '../support/lab/nix-lab.ts';

interface Reported {
  readonly path: string;
  readonly narSize: number;
  readonly status: string;
  readonly code?: string;
}

/** Creates a machine that has built `apart` and the chain `upper`, `middle`, `lower`. */
async function machineWith(t: TestContext, nix: NixVersion): Promise<Machine> {
  const machine = await createMachine(t, { nix });
  await machine.writeGraph([
    { name: 'lower' },
    { name: 'middle', deps: ['lower'] },
    { name: 'upper', deps: ['middle'] },
    { name: 'apart' },
  ]);
  await writeFile(join(machine.work, 'flake.nix'), graphFlake());
  await machine.output('nix-build', ['-A', 'upper', '-A', 'apart']);
  return machine;
}

const versions = everyNix();
for (const nix of versions) {
  const isNewest = nix === versions.at(-1);
  describe(`niche push, nix ${nix.version}`, { concurrency: false }, () => {
    test('takes paths, links, installables and stdin; nothing is uploaded twice', async (t) => {
      const machine = await machineWith(t, nix);
      const upper = await machine.output('readlink', ['result']);
      const apart = await machine.output('readlink', ['result-2']);
      const closure = ['lower', 'middle', 'upper'];

      const ways: readonly (readonly [string, readonly string[], string, readonly string[]])[] = [
        ['path', [upper], '', closure],
        ['links', ['./result', 'result-2'], '', ['apart', ...closure]],
        ['flake', ['path:.#upper', apart], '', ['apart', ...closure]],
        ['file', ['--', '--file', 'default.nix', 'upper'], '', closure],
        ['stdin', [], `${apart}\n\n  ${upper}  \n`, ['apart', ...closure]],
      ];
      // Nix versions differ in their output, not in the arguments of niche.
      const tried = isNewest ? ways : ways.filter(([name]) => name === 'links' || name === 'file');
      for (const [name, args, input, wanted] of tried) {
        const cache = await machine.makeCache(name);
        const pushed = await machine.nicheDoes(['push', '-u', cache.url, ...args], { input });
        assert.equal(pushed.stdout, '');
        assert.deepEqual(await cache.names(), wanted, name);
        const before = await cache.snapshot();
        const again = await machine.nicheDoes(['push', '-u', cache.url, ...args], { input });
        assert.match(
          again.stderr,
          new RegExp(`^niche: ${wanted.length} paths already there in .*\n$`),
        );
        assert.deepEqual(await cache.snapshot(), before, name);
      }
    });

    if (!isNewest) return;

    test('skips excluded paths, and reports each path', async (t) => {
      const machine = await machineWith(t, nix);
      const upper = await machine.output('readlink', ['result']);
      const apart = await machine.output('readlink', ['result-2']);
      const cache = await machine.makeCache();
      const report = join(machine.work, 'report');
      const excluding = await machine.nicheDoes([
        ...['push', '-u', cache.url, '--exclude', '-middle$', '--report', report, upper, apart],
      ]);
      assert.match(excluding.stderr, /^niche: 2 paths published \(.*\), 2 excluded in /m);
      assert.deepEqual(await cache.names(), ['apart', 'lower']);
      const lines = (await readFile(report, 'utf8')).trimEnd().split('\n');
      const { lookups } = JSON.parse(lines.pop() ?? '') as { lookups: Record<string, number> };
      assert.deepEqual(lookups, { known: 0, lookups: 2, listings: 0, upstream: 0, receipts: 0 });
      const reported = lines.map((line) => JSON.parse(line) as Reported);
      assert.deepEqual(
        reported.map(({ path, status, code }) => [nameOf(path), status, code ?? '']).sort(),
        [
          ['apart', 'published', ''],
          ['lower', 'published', ''],
          ['middle', 'skipped', 'excluded'],
          ['upper', 'skipped', 'excluded'],
        ],
      );
      assert.ok(reported.every(({ narSize }) => narSize > 0));

      const alone = ['push', '-u', cache.url, '--no-closure', '--wait', '1s', upper];
      const waiting = await machine.niche(alone);
      assert.equal(waiting.status, 75, waiting.stderr);
      assert.match(waiting.stderr, /^niche: \S+-upper waits for 1 reference: \S+-middle$/m);
      assert.deepEqual(await cache.names(), ['apart', 'lower']);
      await machine.nicheDoes(['push', '-u', cache.url, './result']);
      assert.deepEqual(await cache.names(), ['apart', 'lower', 'middle', 'upper']);
    });

    test('continues when the reader of its output closes the pipe', async (t) => {
      const machine = await machineWith(t, nix);
      const cache = await machine.makeCache();
      const niche = `'${process.execPath}' '${join(import.meta.dirname, '../../cli/main.ts')}'`;
      const push = `${niche} push -u ${cache.url} ./result 2>&1`;
      await machine.output('sh', ['-c', `{ ${push}; echo $? > status; } | true`]);
      assert.equal(await readFile(join(machine.work, 'status'), 'utf8'), '0\n');
      assert.deepEqual(await cache.names(), ['lower', 'middle', 'upper']);
    });

    test('rejects arguments that are not paths of this store, and uploads nothing', async (t) => {
      const machine = await machineWith(t, nix);
      const upper = await machine.output('readlink', ['result']);
      const cache = await machine.makeCache();
      const before = await cache.snapshot();
      const push = (args: readonly string[], input = ''): ReturnType<Machine['niche']> =>
        machine.niche(['push', '-u', cache.url, ...args], { input });

      const unknown = await push([`${machine.storeDir}/${'0'.repeat(32)}-nothing`]);
      assert.equal(unknown.status, 76, unknown.stderr);
      assert.match(unknown.stderr, /-nothing is not in the store /m);
      const line = await push([], `not a path\n`);
      assert.equal(line.status, 76);
      assert.match(
        line.stderr,
        /^niche: .*invalid line on standard input: expected a store path, got "not a path"$/m,
      );
      assert.doesNotMatch(line.stderr, /nothing to upload/);
      const installable = await push(['path:.#nothing']);
      assert.equal(installable.status, 1);
      assert.match(
        installable.stderr,
        /^niche: "nix path-info path:\.#nothing" failed: exit status 1/,
      );
      const pattern = await push(['--exclude', '(', upper]);
      assert.equal(pattern.status, 1);
      assert.match(pattern.stderr, /--exclude/);
      assert.deepEqual(await cache.snapshot(), before);
    });
  });
}
