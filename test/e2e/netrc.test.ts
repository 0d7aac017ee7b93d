import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';

import { serveAnswers } from '../support/cache/http.ts';
import { createMachine, skipUnlessChroot } from '../support/lab/e2e-machine.ts';
import { everyNix } from '../support/lab/nix-lab.ts';
import { readerOf } from './made.ts';

const password = 'a-secret-of-this-test';

/** Serves a folder to those who log in. */
async function servePrivately(t: TestContext, folder: string): Promise<string> {
  const expected = `Basic ${btoa(`ci:${password}`)}`;
  const { url } = await serveAnswers(t, (key, response, { headers }) => {
    if (headers.authorization !== expected) {
      response.writeHead(401, { 'www-authenticate': 'Basic realm="acme"' }).end();
      return;
    }
    readFile(join(folder, key)).then(
      (body) => response.end(body),
      () => response.writeHead(404).end(),
    );
  });
  return url;
}

describe('niche reads private caches with the netrc of', () => {
  for (const nix of everyNix()) {
    test(`Nix ${nix.version}`, async (t) => {
      const machine = await createMachine(t, { nix });
      if (skipUnlessChroot(t, machine)) return;
      const netrc = join(machine.folder, 'netrc');
      await machine.writeGraph([
        { name: 'lower', bytes: 1000 },
        { name: 'upper', deps: ['lower'] },
      ]);
      const build = (name: string) => machine.output('nix-build', ['--no-out-link', '-A', name]);
      const lower = await build('lower');
      const upper = await build('upper');
      const upstream = await machine.makeCache('upstream', ['--no-upstream']);
      await machine.nicheDoes(['push', '-u', upstream.url, lower]);
      const url = await servePrivately(t, upstream.directory);

      // A cache whose upstream requires the login.
      const cache = await machine.makeCache('acme', ['--upstream', `${url}=${upstream.publicKey}`]);
      const push = ['push', '-u', cache.url, '--wait', '5s', upper];
      const denied = await machine.niche(push);
      assert.equal(denied.status, 76, denied.stderr);
      assert.match(denied.stderr, /the server requires a login/);
      await writeFile(netrc, `machine 127.0.0.1\nlogin ci\npassword ${password}\n`, {
        mode: 0o600,
      });
      await machine.configure({ 'netrc-file': netrc });
      const pushed = await machine.nicheDoes(push);
      assert.match(pushed.stderr, /1 in an upstream/);
      assert.deepEqual(await cache.names(), ['upper']);

      // The private cache itself, with the same file as Nix.
      const shown = await machine.nicheDoes(['show', '-u', url, '--json']);
      assert.match(shown.stdout, /"upstream"/);
      const served = { substituter: url, publicKey: upstream.publicKey };
      const reader = await readerOf(t, machine, served);
      await reader.configure({ 'netrc-file': netrc });
      await reader.output('nix-store', ['--realise', lower]);

      // Without Nix, and with a wrong password.
      const wrong = join(machine.folder, 'wrong');
      await writeFile(wrong, `default login ci password not-${password}\n`);
      const refused = await machine.niche(['show', '-u', url], {
        env: { NICHE_NETRC: wrong, NICHE_DEBUG: '1' },
      });
      assert.equal(refused.status, 1);
      assert.match(refused.stderr, /the server refuses the login/);
      await machine.nicheDoes(['show', '-u', url], { env: { NICHE_NETRC: netrc, PATH: '' } });
      for (const { stdout, stderr } of [denied, pushed, shown, refused]) {
        assert.ok(!`${stdout}${stderr}`.includes(password));
        assert.ok(!`${stdout}${stderr}`.includes(btoa(`ci:${password}`)));
      }
    });
  }
});
