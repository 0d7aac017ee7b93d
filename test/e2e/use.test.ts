import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';

import { runNiche } from '../support/lab/niche-process.ts';
import type { NicheRun } from '../support/lab/niche-process.ts';
import type { NixDaemon } from '../support/lab/nix-daemon.ts';
import { everyNix } from '../support/lab/nix-lab.ts';
import type { NixLab } from '../support/lab/nix-lab.ts';
import { makeReader, publishCache } from './reading.ts';
import type { PublishedCache } from './reading.ts';

interface Advice {
  readonly placement: string;
  readonly file: string;
  readonly commands: readonly string[];
  readonly permitCommands: readonly string[];
  readonly accepted: boolean | null;
}

/** Creates a user that the lab's daemon does not trust. */
interface User {
  readonly daemon: NixDaemon;
  readonly conf: string;
  readonly use: (...args: string[]) => Promise<NicheRun>;
}

async function untrustedUser(lab: NixLab, cache: PublishedCache): Promise<User> {
  const daemon = await lab.daemon({ trustedUsers: [] });
  // The daemon must not read the user's file.
  const config = `${daemon.socket}.home/.config`;
  const env = { ...daemon.env, XDG_CONFIG_HOME: config };
  return {
    daemon: {
      ...daemon,
      run: (command, args) => daemon.run(command, args, { env: { XDG_CONFIG_HOME: config } }),
    },
    conf: join(config, 'nix/nix.conf'),
    use: (...args) =>
      runNiche(['use', cache.url, '--path', cache.storePath, ...args], { cwd: lab.work, env }),
  };
}

async function advise(user: User): Promise<Advice> {
  const { status, stdout, stderr } = await user.use('--json');
  assert.equal(status, 0, stderr);
  return JSON.parse(stdout) as Advice;
}

/** Runs the printed command that changes nix.conf, as an administrator. */
async function runAppend(lab: NixLab, [append = '']: readonly string[]): Promise<void> {
  await lab.output('/bin/sh', ['-c', append.replace('sudo ', '')]);
}

async function realises(lab: NixLab, user: User, cache: PublishedCache): Promise<boolean> {
  const { status } = await user.daemon.run('nix-store', ['--realise', cache.storePath]);
  return status === 0 && existsSync(join(lab.realPath(cache.storePath), 'name'));
}

for (const nix of everyNix()) {
  describe(`an untrusted user of nix ${nix.version}`, () => {
    test('gets working commands for an administrator', async (t) => {
      const cache = await publishCache(t, nix);
      if (cache === null) return;
      const lab = await makeReader(t, nix);
      const user = await untrustedUser(lab, cache);
      const before = await advise(user);
      assert.equal(before.placement, 'system');
      assert.equal(before.file, join(lab.folder, 'etc/nix.conf'));
      assert.equal(before.accepted, false);

      const refused = await user.use('--write');
      assert.equal(refused.status, 1);
      assert.match(refused.stderr, /you are not a trusted user of Nix/);
      assert.ok(refused.stderr.includes(before.commands[0]!), refused.stderr);
      assert.equal(existsSync(user.conf), false);

      await runAppend(lab, before.commands);
      const later = await untrustedUser(lab, cache);
      const after = await advise(later);
      assert.equal(after.placement, 'in-use');
      assert.equal(after.accepted, true);
      assert.equal(await realises(lab, later, cache), true);
    });

    test('can use the caches that an administrator permits', async (t) => {
      const cache = await publishCache(t, nix);
      if (cache === null) return;
      const lab = await makeReader(t, nix);
      const { permitCommands } = await advise(await untrustedUser(lab, cache));
      await runAppend(lab, permitCommands);
      const user = await untrustedUser(lab, cache);
      const permitted = await advise(user);
      assert.equal(permitted.placement, 'user');
      assert.equal(permitted.accepted, false);
      assert.equal(await realises(lab, user, cache), false);

      const written = await user.use('--write');
      assert.equal(written.status, 0, written.stderr);
      assert.match(written.stdout, /Nix accepts the cache/);
      assert.doesNotMatch(await readFile(user.conf, 'utf8'), /public-keys/);
      assert.equal(await realises(lab, user, cache), true);
      assert.equal((await user.use('--remove')).status, 0);
      assert.equal(existsSync(user.conf), false);
    });
  });
}
