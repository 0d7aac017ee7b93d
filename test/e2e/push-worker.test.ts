import assert from 'node:assert/strict';
import { access, mkdir, readdir, readFile, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';

import { newUploadId } from '../../core/cache/upload-id.ts';
import { createMachine, skipUnlessChroot } from '../support/lab/e2e-machine.ts';
import { requireNix } from '../support/lab/nix-lab.ts';

describe('niche worker', { concurrency: false }, () => {
  test('publishes staged paths, and then has nothing to do', async (t) => {
    const nix = requireNix(t);
    if (nix === null) return;
    const machine = await createMachine(t, { nix });
    await machine.writeGraph([{ name: 'lower' }, { name: 'upper', deps: ['lower'] }]);
    const upper = await machine.output('nix-build', ['--no-out-link', '-A', 'upper']);
    const cache = await machine.makeCache();
    const staged = await machine.nicheDoes(['push', '-u', cache.url, '--no-publish', upper]);
    assert.match(staged.stderr, /^niche: 2 paths staged in /m);
    assert.match(
      staged.stderr,
      /^niche: 2 paths staged, for another process to publish\nhint: niche status -u \S+ \S+$/m,
    );
    assert.deepEqual(await cache.names(), []);
    const told = /^hint: niche (status -u \S+ \S+)$/m.exec(staged.stderr)?.[1] ?? '';
    assert.equal((await machine.niche(told.split(' '))).status, 75);

    const worked = await machine.nicheDoes(['worker', cache.url, '--once']);
    const lines = worked.stdout.trimEnd().split('\n').sort();
    assert.deepEqual(lines, (await cache.paths()).map((path) => `published ${path}`).sort());
    assert.equal(worked.stderr, 'niche: stopped: 2 paths published, 0 rejected\n');
    assert.deepEqual(await cache.names(), ['lower', 'upper']);
    await machine.nicheDoes(told.split(' '));
    const idle = await machine.nicheDoes(['worker', cache.url, '--once', '--json']);
    assert.equal(idle.stdout, '');
    const { event, published, rejected } = JSON.parse(idle.stderr) as Record<string, unknown>;
    assert.deepEqual([event, published, rejected], ['stopped', 0, 0]);
  });

  test('worker --once sweeps although a batch always fails', async (t) => {
    const nix = requireNix(t);
    if (nix === null) return;
    const machine = await createMachine(t, { nix });
    const cache = await machine.makeCache();
    const [poison, abandoned] = [newUploadId(), newUploadId()];
    for (const folder of [`staging/${poison}`, `staging/${abandoned}`]) {
      await mkdir(join(cache.directory, folder), { recursive: true });
    }
    // No attempt at a batch can be recorded.
    await writeFile(join(cache.directory, `staging/${poison}/0.json`), '{}');
    await writeFile(join(cache.directory, 'attempts'), '');
    const leftover = join(cache.directory, `staging/${abandoned}/0.nars`);
    await writeFile(leftover, '');
    await utimes(leftover, 0, 0);
    const worked = await machine.niche(['worker', cache.url, '--once']);
    assert.equal(worked.status, 1);
    assert.match(worked.stderr, /^niche: writing "attempts\/\S+" in .* failed: not a directory/m);
    await assert.rejects(access(leftover), 'it was not swept');
  });

  test('two concurrent workers publish 200 staged paths correctly', async (t) => {
    const nix = requireNix(t);
    if (nix === null) return;
    const machine = await createMachine(t, { nix });
    const sources = join(machine.work, 'sources');
    await mkdir(sources);
    const names = Array.from({ length: 200 }, (_, number) => `source-${number}`);
    for (const name of names) await writeFile(join(sources, name), `${name}\n`);
    const added = await machine.output('nix-store', [
      ...['--add', ...names.map((name) => join(sources, name))],
    ]);
    const cache = await machine.makeCache();
    // Stages several batches, so that both workers get some.
    const paths = added.split('\n');
    for (const group of [paths.slice(0, 70), paths.slice(50, 150), paths.slice(120)]) {
      const input = group.join('\n');
      await machine.nicheDoes(['push', '-u', cache.url, '--no-publish'], { input });
    }
    const workers = await Promise.all(
      [1, 2].map(() => machine.nicheDoes(['worker', cache.url, '--once', '--json'])),
    );
    for (const { stderr } of workers) assert.match(stderr, /"rejected":0\}\n$/);
    const outcomes = workers
      .flatMap(({ stdout }) => stdout.split('\n').slice(0, -1))
      .map((line) => JSON.parse(line) as { path: string; status: string });
    const published = outcomes.filter(({ status }) => status === 'published');
    assert.deepEqual(published.map(({ path }) => path).sort(), [...paths].sort());
    assert.ok(outcomes.every(({ status }) => status === 'published' || status === 'exists'));
    assert.deepEqual(await cache.paths(), [...paths].sort());

    await machine.nicheDoes(['verify', '-u', cache.url]);
    const audited = new Set<string>();
    for (const [file, text] of await cache.snapshot()) {
      if (file.startsWith(join(cache.directory, 'audit/'))) {
        for (const line of text.trimEnd().split('\n')) {
          audited.add((JSON.parse(line) as { path: string }).path);
        }
      }
    }
    assert.deepEqual([...audited].sort(), [...paths].sort());
    const left = await readdir(cache.directory);
    for (const name of ['staging', 'pending', 'waiting', 'attempts']) {
      if (left.includes(name)) {
        const files = await readdir(join(cache.directory, name), { recursive: true });
        assert.deepEqual(files, [], name);
      }
    }
    if (skipUnlessChroot(t, machine)) return;
    const reader = await createMachine(t, { nix, trustedPublicKeys: [cache.publicKey] });
    await reader.output('nix', ['copy', '--from', cache.url, ...paths]);
    await reader.output('nix-store', ['--verify', '--check-contents']);
    assert.equal(await readFile(reader.realPath(paths[7]!), 'utf8'), 'source-7\n');
  });
});
