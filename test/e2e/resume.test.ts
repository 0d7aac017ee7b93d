import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';

import { assertSound, sweepIn, unfinishedIn } from '../support/cache/check.ts';
import type { RunningNiche } from '../support/lab/niche-process.ts';
import { createNicheLab, untilThere } from '../support/lab/niche-lab.ts';
import type { LabCache, NicheLab } from '../support/lab/niche-lab.ts';
import { availableNix, whyNoNix } from '../support/lab/nix-lab.ts';

const parts = [
  { name: 'leaf' },
  { name: 'big', bytes: 24_000_000, deps: ['leaf'] },
  { name: 'many', outputs: ['out', 'dev'], deps: ['leaf'] },
  { name: 'all', deps: ['leaf', 'big', 'many'] },
  { name: 'quick', deps: ['leaf'] },
  { name: 'slow', deps: ['quick'], sleepSeconds: 3 },
];

/** The moments to kill a process, each detected by a file in its cache. */
const moments: readonly (readonly [string, RegExp])[] = [
  ['a NAR is being staged', /^\.niche-tmp\//],
  ['the small batch is staged', /^staging\/.*\/0\.json$/],
  ['a second batch is staged', /^staging\/.*\/1\.json$/],
  ['an attempt has started', /^attempts\//],
  ['the first NAR is published', /^nar\//],
  ['the first narinfo is visible', /\.narinfo$/],
  ['a path waits for its reference', /^waiting\//],
];

const nix = availableNix().at(-1);

describe('kill -9', { skip: whyNoNix() }, () => {
  let lab: NicheLab;
  let all: string;
  let closure: string[];
  let caches = 0;

  before(async () => {
    lab = await createNicheLab(nix!, parts);
    all = await lab.build('all');
    closure = (await lab.nix.output('nix-store', ['-qR', all])).split('\n').sort();
  });
  after(() => lab.close());

  const newCache = (): Promise<LabCache> => lab.cache(`cache-${(caches += 1)}`);

  async function killAt(cache: LabCache, moment: RegExp, niche: RunningNiche): Promise<void> {
    await untilThere(cache.directory, moment, niche);
    // The process may end before the kill if the moment is late.
    if (niche.process.exitCode === null) niche.interrupt('SIGKILL');
    await niche.ended;
    await assertSound(cache.directory);
  }

  /** Returns all paths in the staged manifests, with duplicates. */
  async function stagedPaths(cache: LabCache): Promise<string[]> {
    const files = (await unfinishedIn(cache.directory)).filter((key) =>
      /^staging\/.*\.json$/.test(key),
    );
    const manifests = await Promise.all(
      files.map((file) => readFile(join(cache.directory, file), 'utf8')),
    );
    return manifests.flatMap((text) =>
      (JSON.parse(text) as { paths: { path: string }[] }).paths.map(({ path }) => path),
    );
  }

  /** Asserts that the next run published all batches, and that a sweep removes all leftovers. */
  async function assertSweepable(cache: LabCache): Promise<void> {
    const unpublished = (await unfinishedIn(cache.directory)).filter((key) =>
      /^staging\/.*\.json$/.test(key),
    );
    assert.deepEqual(unpublished, [], 'the next run publishes what was staged');
    await sweepIn(cache.directory, cache.secretKey, 8);
    assert.deepEqual(await unfinishedIn(cache.directory), []);
  }

  for (const [name, moment] of moments) {
    test(`a push when ${name}: the next push completes it`, async () => {
      const cache = await newCache();
      const push = ['push', '-u', cache.url, all];
      await killAt(cache, moment, lab.start(push));
      const again = await lab.run(push);
      assert.equal(again.status, 0, again.stderr);
      assert.deepEqual(await assertSound(cache.directory), closure);
      await assertSweepable(cache);
    });
  }

  test('a push that only stages: the next push stages the missing paths, and none twice', async () => {
    const cache = await newCache();
    const push = ['push', '-u', cache.url, '--no-publish', all];
    const counted = (what: string): RegExp =>
      new RegExp(`^niche: ${closure.length} paths ${what} `, 'm');
    await killAt(cache, /^staging\/.*\/0\.json$/, lab.start(push));
    const again = await lab.run([...push, '--report', '/dev/null']);
    assert.equal(again.status, 0, again.stderr);
    assert.match(again.stderr, counted('staged in'));
    const staged = await stagedPaths(cache);
    assert.deepEqual(staged.sort(), closure, 'each path once');
    const third = await lab.run(push);
    assert.match(third.stderr, counted('staged in'));
    assert.deepEqual((await stagedPaths(cache)).sort(), closure);
    const published = await lab.run(['push', '-u', cache.url, all]);
    assert.equal(published.status, 0, published.stderr);
    assert.match(published.stderr, counted('published'));
    assert.deepEqual(await assertSound(cache.directory), closure);
    await assertSweepable(cache);
    const known = await lab.run(['push', '-u', cache.url, all]);
    assert.match(known.stderr, counted('already there in'));
    assert.doesNotMatch(known.stderr, /request/, 'all of it was known');
  });

  test('a push of another path publishes the paths staged earlier', async () => {
    const cache = await newCache();
    const staged = await lab.run(['push', '-u', cache.url, '--no-publish', all]);
    assert.equal(staged.status, 0, staged.stderr);
    const leaf = closure.find((path) => path.endsWith('-leaf'))!;
    const other = await lab.run(['push', '-u', cache.url, leaf]);
    assert.equal(other.status, 0, other.stderr);
    assert.deepEqual(await assertSound(cache.directory), closure);
    assert.deepEqual(await unfinishedIn(cache.directory), []);
  });

  for (const [name, moment] of moments.slice(3, 6)) {
    test(`a worker when ${name}: another worker completes it`, async () => {
      const cache = await newCache();
      await lab.run(['push', '-u', cache.url, '--no-publish', all]);
      await killAt(cache, moment, lab.start(['worker', cache.url]));
      const worker = await lab.run(['worker', cache.url, '--once']);
      assert.equal(worker.status, 0, worker.stderr);
      assert.deepEqual(await assertSound(cache.directory), closure);
      await assertSweepable(cache);
    });
  }

  test('two workers on one cache: a third worker completes it', async () => {
    const cache = await newCache();
    await lab.run(['push', '-u', cache.url, '--no-publish', all]);
    const workers = [lab.start(['worker', cache.url]), lab.start(['worker', cache.url])];
    await Promise.all(workers.map((worker) => killAt(cache, /^nar\//, worker)));
    assert.equal((await lab.run(['worker', cache.url, '--once'])).status, 0);
    assert.deepEqual(await assertSound(cache.directory), closure);
    await assertSweepable(cache);
  });

  test('a build and its nix: the next build completes it and cleans up', async () => {
    const cache = await newCache();
    const build = ['build', '-u', cache.url, '--', '-f', 'default.nix', 'slow', '--no-link'];
    await killAt(cache, /\.narinfo$/, lab.start(build));
    const before = await assertSound(cache.directory);
    assert.ok(!before.some((path) => path.endsWith('-slow')));
    const again = await lab.run(build);
    assert.equal(again.status, 0, again.stderr);
    const names = (await assertSound(cache.directory)).map((path) =>
      path.split('-').slice(1).join('-'),
    );
    assert.deepEqual(names.sort(), ['leaf', 'quick', 'slow']);
    await assertSweepable(cache);
    const sessions = (await readdir(lab.nix.env['TMPDIR']!)).filter((name) =>
      name.startsWith('niche-'),
    );
    assert.deepEqual(sessions, []);
    assert.deepEqual(lab.processes(), []);
  });
});
