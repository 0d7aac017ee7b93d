import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmod, rename, rm } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import type { TestContext } from 'node:test';

import { inCi } from '../setup/tools.ts';
import { assertSound, snapshot, unfinishedIn } from '../support/cache/check.ts';
import { assertDiscreet, createNicheLab, labFolder, untilThere } from '../support/lab/niche-lab.ts';
import type { NicheLab } from '../support/lab/niche-lab.ts';
import { availableNix, whyNoNix } from '../support/lab/nix-lab.ts';

const parts = [
  { name: 'leaf' },
  // Random data does not compress.
  { name: 'data', deps: ['leaf'], script: 'head -c 12000000 /dev/urandom > $out/random' },
  ...['gone', 'moved'].flatMap((name) => [
    { name: `first-${name}`, deps: ['leaf'] },
    { name: `second-${name}`, deps: [`first-${name}`], sleepSeconds: 4 },
  ]),
];

const nix = availableNix().at(-1);
const isRoot = process.getuid?.() === 0;

describe('the disk', { skip: whyNoNix() }, () => {
  let lab: NicheLab;
  let data: string;

  before(async () => {
    lab = await createNicheLab(nix!, parts);
    data = await lab.build('data');
  });
  after(() => lab.close());

  /** Mounts a small in-memory disk. Skips the test and returns null if this user cannot mount. */
  function smallDisk(t: TestContext, name: string, mib: number): string | null {
    const directory = labFolder(lab, name);
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${mib}m`, 'tmpfs', directory], {
        stdio: 'pipe',
      });
    } catch (error) {
      if (inCi() && isRoot) throw error;
      t.skip('mounting a small disk needs root');
      return null;
    }
    t.after(() => execFileSync('umount', [directory]));
    return directory;
  }

  for (const [while_, mib] of [
    ['staging', 6],
    ['publishing', 18],
  ] as const) {
    test(`full while ${while_}: reports it; the cache stays sound and resumes with more space`, async (t) => {
      const directory = smallDisk(t, while_, mib);
      if (directory === null) return;
      const cache = await lab.cache(while_, { directory });
      const run = await lab.run(['push', '-u', cache.url, data]);
      assert.equal(run.status, 76, run.stderr);
      assert.match(run.stderr, /no space left on device \(ENOSPC\)/);
      assertDiscreet(run, cache.secretKey);
      await assertSound(directory);
      const left = (await unfinishedIn(directory)).filter((file) => file.startsWith('.niche-tmp/'));
      assert.deepEqual(left, [], 'nothing unfinished takes room');

      execFileSync('mount', ['-o', 'remount,size=64m', directory]);
      const again = await lab.run(['push', '-u', cache.url, data]);
      assert.equal(again.status, 0, again.stderr);
      assert.equal((await assertSound(directory)).length, 2);
      assert.deepEqual(await unfinishedIn(directory), []);
    });
  }

  test('read-only: fails before building', async (t) => {
    const directory = smallDisk(t, 'locked', 8);
    if (directory === null) return;
    const cache = await lab.cache('locked', { directory });
    const before_ = await snapshot(directory);
    execFileSync('mount', ['-o', 'remount,ro', directory]);
    const args = ['-f', 'default.nix', 'second-gone', '--no-link'];
    const run = await lab.run(['build', '-u', cache.url, '--', ...args]);
    assert.equal(run.status, 1, run.stderr);
    assert.match(run.stderr, /^niche: writing in file:.*read-only file system \(EROFS\)$/m);
    assert.doesNotMatch(run.stderr, /building '/);
    assert.deepEqual(await snapshot(directory), before_);
  });

  test('an unwritable directory: fails before building', async (t) => {
    if (!isRoot) {
      t.skip('acting as another user needs root');
      return;
    }
    const cache = await lab.cache('denied');
    const daemon = await lab.nix.daemon();
    const home = labFolder(lab, 'home-of-nobody');
    await chmod(home, 0o777);
    const before_ = await snapshot(cache.directory);
    const run = await lab.run(['push', '-u', cache.url, '--no-publish', data], {
      uid: 65534,
      env: { ...daemon.env, HOME: home, TMPDIR: home },
    });
    assert.equal(run.status, 1, run.stderr);
    assert.match(
      run.stderr,
      /^niche: writing in file:.*denied failed: permission denied \(EACCES\)$/m,
    );
    assertDiscreet(run);
    assert.deepEqual(await snapshot(cache.directory), before_);

    const keyless = await lab.run(['worker', cache.url, '--secret-key-file', cache.secretKeyFile], {
      uid: 65534,
      env: { HOME: home },
    });
    assert.equal(keyless.status, 1, keyless.stderr);
    assert.match(keyless.stderr, /^niche: cannot read the secret key in .*EACCES/m);
    assertDiscreet(keyless, cache.secretKey);
  });

  for (const [how, remove] of [
    [
      'gone',
      async (directory: string) => {
        // Renaming is atomic. Concurrent writes would make the removal fail.
        await rename(directory, `${directory}.away`);
        await rm(`${directory}.away`, { recursive: true });
      },
    ],
    ['moved', (directory: string) => rename(directory, `${directory}.away`)],
  ] as const) {
    test(`directory ${how} during a build: the build continues, then niche reports it`, async () => {
      const cache = await lab.cache(how);
      const args = ['-f', 'default.nix', `second-${how}`, '--no-link', '--print-out-paths'];
      const niche = lab.start(['build', '-u', cache.url, '--', ...args]);
      await untilThere(cache.directory, /^receipts\//, niche);
      await remove(cache.directory);
      const run = await niche.ended;
      assert.equal(run.status, 76, run.stderr);
      assert.match(run.stdout, new RegExp(`-second-${how}\n$`));
      assert.match(run.stderr, /^niche: upload failed: .*expected a directory, got nothing/m);
      assertDiscreet(run, cache.secretKey);
      assert.deepEqual(await snapshot(cache.directory), {}, 'it is not made again');
      if (how === 'moved') await assertSound(`${cache.directory}.away`);
    });
  }
});
