import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { copyFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';

import { temporaryFolder } from '../support/cache/small-cache.ts';

const checkout = join(import.meta.dirname, '../..');

/** Homes whose folders cannot be created. In /proc, Node's recursive `mkdir` never returns. */
const homes = ['/dev/null/home', '/proc/home', '/sys/home'];

describe('the start of niche, where the home folder cannot be created', () => {
  for (const home of homes) {
    it(`goes on without a cache of compiled code: ${home}`, () => {
      const { status, stdout } = run([join(checkout, 'cli/start.ts'), '--version'], home);
      assert.equal(status, 0);
      assert.match(stdout, /^niche \d/);
    });

    it(`does so as an installed package: ${home}`, async (context) => {
      const folder = await temporaryFolder(context);
      await copyFile(join(checkout, 'scripts/launcher.cjs'), join(folder, 'niche.cjs'));
      await writeFile(join(folder, 'main.mjs'), `console.log('started');`);
      const { status, stdout } = run([join(folder, 'niche.cjs')], home);
      assert.equal(status, 0);
      assert.equal(stdout, 'started\n');
    });
  }
});

function run(args: readonly string[], home: string) {
  return spawnSync(process.execPath, args, {
    env: { HOME: home, PATH: '/usr/bin:/bin' },
    encoding: 'utf8',
    // Without an end of its own, a loop would run on after the test.
    timeout: 60_000,
  });
}
