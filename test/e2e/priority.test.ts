import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';

import { createMachine, skipUnlessChroot } from '../support/lab/e2e-machine.ts';
import type { Machine } from '../support/lab/e2e-machine.ts';
import { everyNix } from '../support/lab/nix-lab.ts';
import { serveFolder } from '../support/servers/static-server.ts';
import { readerOf } from './made.ts';

interface Served {
  readonly location: string;
  readonly url: string;
  readonly publicKey: string;
  /** How many NARs were requested since the last call. */
  readonly requestedNars: () => number;
}

async function makeServed(
  t: TestContext,
  machine: Machine,
  name: string,
  priority: number,
): Promise<Served> {
  const args = ['--no-upstream', '--priority', String(priority)];
  const { url: location, directory, publicKey } = await machine.makeCache(name, args);
  const server = await serveFolder(directory);
  t.after(() => server.close());
  let seen = 0;
  return {
    location,
    url: server.url,
    publicKey,
    requestedNars: () => {
      const fresh = server.requests.slice(seen);
      seen = server.requests.length;
      return fresh.filter((line) => line.startsWith('GET /nar/')).length;
    },
  };
}

describe('real Nix takes a path from the cache with the lowest priority', () => {
  for (const nix of everyNix()) {
    test(`with Nix ${nix.version}`, async (t) => {
      const machine = await createMachine(t, { nix });
      if (skipUnlessChroot(t, machine)) return;
      await machine.writeGraph([{ name: 'lower', bytes: 1000 }]);
      const path = await machine.output('nix-build', ['--no-out-link', '-A', 'lower']);
      const one = await makeServed(t, machine, 'one', 30);
      const two = await makeServed(t, machine, 'two', 50);
      for (const { location } of [one, two])
        await machine.nicheDoes(['push', '-u', location, path]);

      const realise = async (): Promise<void> => {
        const both = `${two.url} ${one.url}`;
        const keys = `${one.publicKey} ${two.publicKey}`;
        const reader = await readerOf(t, machine, { substituter: both, publicKey: keys });
        await reader.output('nix-store', ['--realise', path]);
      };
      await realise();
      assert.deepEqual([one.requestedNars(), two.requestedNars()], [1, 0]);
      await machine.nicheDoes(['config', 'set', 'priority', '60', '-u', one.location]);
      await realise();
      assert.deepEqual([one.requestedNars(), two.requestedNars()], [0, 1]);
    });
  }
});
