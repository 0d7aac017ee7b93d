import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';

import { createMachine, skipUnlessChroot } from '../support/lab/e2e-machine.ts';
import type { DirectoryCache, Machine } from '../support/lab/e2e-machine.ts';
import { requireNix } from '../support/lab/nix-lab.ts';
import { serveAnswers } from '../support/cache/http.ts';

interface Setting {
  readonly machine: Machine;
  readonly cache: DirectoryCache;
  /** A path of the cache, and its reference, which the upstream has. */
  readonly path: string;
  /** Lets the upstream close the next connections without a response. */
  readonly fail: (connections: number) => void;
}

async function setUp(t: TestContext): Promise<Setting | null> {
  const nix = requireNix(t);
  if (nix === null) return null;
  const machine = await createMachine(t, { nix });
  if (skipUnlessChroot(t, machine)) return null;
  await machine.writeGraph([
    { name: 'lower', bytes: 1000 },
    { name: 'upper', deps: ['lower'] },
  ]);
  const build = (name: string) => machine.output('nix-build', ['--no-out-link', '-A', name]);
  const lower = await build('lower');
  const path = await build('upper');
  const upstream = await machine.makeCache('upstream', ['--no-upstream']);
  await machine.nicheDoes(['push', '-u', upstream.url, lower]);
  let failures = 0;
  const { url } = await serveAnswers(t, (key, response, { socket }) => {
    failures -= 1;
    if (failures >= 0) {
      socket.destroy();
      return;
    }
    readFile(join(upstream.directory, key)).then(
      (body) => response.end(body),
      () => response.writeHead(404).end(),
    );
  });
  const cache = await machine.makeCache('acme', ['--upstream', `${url}=${upstream.publicKey}`]);
  return {
    machine,
    cache,
    path,
    fail(connections) {
      failures = connections;
    },
  };
}

describe('an upstream that is down', () => {
  test('for seconds costs an upload only time', async (t) => {
    const setting = await setUp(t);
    if (!setting) return;
    const { machine, cache, path, fail } = setting;
    // Each of the two lookups makes three attempts.
    fail(7);
    const { status, stderr } = await machine.niche(['push', '-u', cache.url, path]);
    assert.equal(status, 0, stderr);
    assert.match(stderr, /warning: the upstream http:\S+ does not respond: waiting up to 2 min/);
    assert.match(stderr, /the upstream http:\S+ responds again, after /);
    assert.deepEqual(await cache.names(), ['upper']);
  });

  test('for long does not stop the staging, and a later run publishes the paths', async (t) => {
    const setting = await setUp(t);
    if (!setting) return;
    const { machine, cache, path, fail } = setting;
    const push = ['push', '-u', cache.url, path];
    fail(Infinity);
    const first = await machine.niche([...push, '--wait', '1s']);
    assert.equal(first.status, 75, first.stderr);
    assert.match(first.stderr, /did not respond for 1.0 s: staging paths without it/);
    assert.match(first.stderr, /2 paths not published yet/);
    assert.deepEqual(await cache.names(), [], 'down is not missing');
    fail(0);
    const second = await machine.niche(push);
    assert.equal(second.status, 0, second.stderr);
    assert.ok((await cache.names()).includes('upper'));
  });
});
