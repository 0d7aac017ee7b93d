import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';

import { assertSound, filesIn, unfinishedIn } from '../support/cache/check.ts';
import { assertDiscreet, createNicheLab, untilThere } from '../support/lab/niche-lab.ts';
import type { LabCache, NicheLab } from '../support/lab/niche-lab.ts';
import { availableNix, whyNoNix } from '../support/lab/nix-lab.ts';

const parts = [
  { name: 'leaf' },
  { name: 'big', bytes: 60_000_000, deps: ['leaf'] },
  { name: 'all', deps: ['leaf', 'big'] },
  ...['group', 'terminal', 'term'].flatMap((name) => [
    { name: `quick-${name}`, deps: ['leaf'] },
    { name: `endless-${name}`, deps: [`quick-${name}`], sleepSeconds: 600 },
  ]),
];

const nix = availableNix().at(-1);
const nameOf = (path: string): string => path.replace(/^.*\/[^-]*-/, '');

describe('interrupts', { skip: whyNoNix() }, () => {
  let lab: NicheLab;
  let all: string;
  let caches = 0;

  before(async () => {
    lab = await createNicheLab(nix!, parts);
    all = await lab.build('all');
  });
  after(() => lab.close());

  const newCache = (): Promise<LabCache> => lab.cache(`cache-${(caches += 1)}`);

  async function assertTidy(): Promise<void> {
    assert.deepEqual(lab.processes(), []);
    const folders = await readdir(lab.nix.env['TMPDIR']!);
    assert.deepEqual(
      folders.filter((name) => name.startsWith('niche-')),
      [],
    );
  }

  for (const [signal, status] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const) {
    test(`${signal} ends a push with status ${status} and reports the remaining paths; the next push completes it`, async () => {
      const cache = await newCache();
      const push = lab.start(['push', '-u', cache.url, all]);
      await untilThere(cache.directory, /^\.niche-tmp\//, push);
      push.interrupt(signal);
      const run = await push.ended;
      assert.equal(run.status, status, run.stderr);
      assert.match(
        run.stderr,
        /^niche: interrupted.*\nhint: run the same command again to finish$/m,
      );
      assert.doesNotMatch(run.stderr, /cannot stage|failed/);
      assertDiscreet(run, cache.secretKey);
      await assertSound(cache.directory);
      await assertTidy();

      const again = await lab.run(['push', '-u', cache.url, all]);
      assert.equal(again.status, 0, again.stderr);
      assert.deepEqual((await assertSound(cache.directory)).map(nameOf).sort(), [
        'all',
        'big',
        'leaf',
      ]);
    });
  }

  test('a second signal ends a push at once', async () => {
    const cache = await newCache();
    const push = lab.start(['push', '-u', cache.url, all]);
    await untilThere(cache.directory, /^staging\/.*\/0\.json$/, push);
    push.interrupt('SIGINT');
    push.interrupt('SIGTERM');
    const run = await push.ended;
    assert.ok(run.status === 130 || run.status === 143, run.stderr);
    assert.doesNotMatch(run.stderr, /interrupted/, 'it takes no time to tell');
    await assertSound(cache.directory);
    await assertTidy();
  });

  test('a worker finishes its current work, and reports it', async () => {
    const cache = await newCache();
    await lab.run(['push', '-u', cache.url, '--no-publish', all]);
    const worker = lab.start(['worker', cache.url]);
    await untilThere(cache.directory, /^attempts\//, worker);
    worker.interrupt('SIGTERM');
    const run = await worker.ended;
    assert.equal(run.status, 0, run.stderr);
    assert.match(run.stderr, /stopping once running batches are finished/);
    assert.equal((await assertSound(cache.directory)).length, 3);
    assert.deepEqual(await unfinishedIn(cache.directory), []);
    await assertTidy();
  });

  test('a second signal ends a worker at once', async () => {
    const cache = await newCache();
    await lab.run(['push', '-u', cache.url, '--no-publish', all]);
    const worker = lab.start(['worker', cache.url]);
    await untilThere(cache.directory, /^attempts\//, worker);
    worker.interrupt('SIGTERM');
    worker.interrupt('SIGINT');
    const run = await worker.ended;
    assert.ok(run.status === 130 || run.status === 143, run.stderr);
    await assertSound(cache.directory);
    await assertTidy();
  });

  const build = (cache: LabCache, name: string): string[] => {
    return ['build', '-u', cache.url, '--', '-f', 'default.nix', name, '--no-link'];
  };

  test('Ctrl-C in a build: nix ends, and the paths it built are published', async () => {
    const cache = await newCache();
    const niche = lab.start(build(cache, 'endless-group'));
    await untilThere(cache.directory, /^receipts\//, niche);
    niche.interrupt('SIGINT');
    const run = await niche.ended;
    assert.notEqual(run.status, 0);
    assert.match(run.stderr, /error: interrupted by the user/);
    assertDiscreet(run, cache.secretKey);
    assert.deepEqual((await assertSound(cache.directory)).map(nameOf).sort(), [
      'leaf',
      'quick-group',
    ]);
    assert.deepEqual(await unfinishedIn(cache.directory), []);
    await assertTidy();
  });

  test('niche forwards SIGTERM to nix', async () => {
    const cache = await newCache();
    const niche = lab.start(build(cache, 'endless-term'));
    await untilThere(cache.directory, /^receipts\//, niche);
    niche.process.kill('SIGTERM');
    const run = await niche.ended;
    assert.notEqual(run.status, 0);
    assert.deepEqual((await assertSound(cache.directory)).map(nameOf).sort(), [
      'leaf',
      'quick-term',
    ]);
    await assertTidy();
  });

  test('Ctrl-C typed at a terminal', async () => {
    const cache = await newCache();
    const main = join(import.meta.dirname, '../../cli/main.ts');
    const line = [process.execPath, main, ...build(cache, 'endless-terminal')].join(' ');
    const script = spawn('script', ['-qefc', line, '/dev/null'], {
      cwd: lab.nix.work,
      env: lab.nix.env,
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    let screen = '';
    script.stdout.setEncoding('utf8').on('data', (text: string) => (screen += text));
    const ended = new Promise<number | null>((resolve) => script.once('close', resolve));
    while (!(await filesIn(cache.directory)).some((file) => file.startsWith('receipts/'))) {
      assert.equal(script.exitCode, null, screen);
    }
    script.stdin.write('\u0003');
    assert.notEqual(await ended, 0);
    assert.match(screen, /interrupted by the user/);
    assert.match(screen, /niche: 2 paths published|niche: .*published/);
    assert.deepEqual((await assertSound(cache.directory)).map(nameOf).sort(), [
      'leaf',
      'quick-terminal',
    ]);
    await assertTidy();
  });

  test('Ctrl-C after nix ended aborts the upload with status 130', async () => {
    const cache = await newCache();
    const niche = lab.start(build(cache, 'all'));
    // Everything is built already, so nix ends long before the 60 MB are published.
    await untilThere(cache.directory, /^staging\/.*\/1\.json$/, niche);
    niche.interrupt('SIGINT');
    const run = await niche.ended;
    assert.equal(run.status, 130, run.stderr);
    assert.match(run.stderr, /niche: interrupted/);
    await assertSound(cache.directory);
    await assertTidy();
    const again = await lab.run(build(cache, 'all'));
    assert.equal(again.status, 0, again.stderr);
    assert.equal((await assertSound(cache.directory)).length, 3);
  });
});
