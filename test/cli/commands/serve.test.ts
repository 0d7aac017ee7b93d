import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request } from 'node:http';
import type { IncomingMessage } from 'node:http';
import { buffer } from 'node:stream/consumers';
import { describe, test } from 'node:test';

import { runCommand } from '../../support/lab/command.ts';
import { startNiche } from '../../support/lab/niche-process.ts';
import { makeSmallCache, temporaryFolder } from '../../support/cache/small-cache.ts';

describe('niche serve', () => {
  test('prints only its URL, serves, and exits with 0', async (t) => {
    const cache = await makeSmallCache(t);
    const niche = await startNiche(['serve', cache.url, '--port', '0']);
    assert.match(niche.firstLine, /^http:\/\/127\.0\.0\.1:[0-9]+$/);
    const answer = await fetch(`${niche.firstLine}/${cache.narKey}`);
    assert.equal(Buffer.from(await answer.arrayBuffer()).equals(cache.nar), true);
    const { status, stdout, stderr } = await niche.stop('SIGTERM');
    assert.equal(status, 0);
    assert.equal(stdout, `${niche.firstLine}\n`);
    assert.equal(stderr, `niche: serving small from ${cache.url}; press Ctrl-C to stop\n`);
  });

  test('finishes requests in flight after SIGINT', async (t) => {
    const cache = await makeSmallCache(t);
    const size = 64 * 2 ** 20;
    await cache.bucket.put('nar/big.nar', Buffer.alloc(size));
    const niche = await startNiche(['serve', '-u', cache.url, '--port', '0', '--log', '--json']);
    const { url, name, publicKeys } = JSON.parse(niche.firstLine) as Record<string, unknown>;
    assert.deepEqual([name, publicKeys], ['small', [cache.publicKey]]);
    const asked = request(`${String(url)}/nar/big.nar`);
    asked.end();
    const [response] = (await once(asked, 'response')) as [IncomingMessage];
    const stopped = niche.stop('SIGINT');
    assert.equal((await buffer(response)).length, size);
    const { status, stderr } = await stopped;
    assert.equal(status, 0);
    assert.match(stderr, /niche: 127\.0\.0\.1 GET "\/nar\/big\.nar" 200 \([0-9]+ ms\)\n/);
  });

  test('prints no warning for any loopback address', async (t) => {
    const cache = await makeSmallCache(t);
    const niche = await startNiche(['serve', cache.url, '--port', '0', '--host', '127.0.0.2']);
    assert.match(niche.firstLine, /^http:\/\/127\.0\.0\.2:/);
    assert.doesNotMatch((await niche.stop()).stderr, /warning/);
  });

  test('serves the cache of a web server', async (t) => {
    const cache = await makeSmallCache(t);
    const first = await startNiche(['serve', cache.url, '--port', '0']);
    t.after(() => first.process.kill('SIGKILL'));
    const second = await startNiche(['serve', '-u', first.firstLine, '--port', '0']);
    const answer = await fetch(`${second.firstLine}/${cache.narKey}`);
    assert.equal(Buffer.from(await answer.arrayBuffer()).equals(cache.nar), true);
    assert.equal((await fetch(`${second.firstLine}/${'0'.repeat(32)}.narinfo`)).status, 404);
    assert.equal((await second.stop()).status, 0);
    assert.equal((await first.stop()).status, 0);
  });

  test('refuses invalid input', async (t) => {
    const folder = await temporaryFolder(t);
    for (const [args, message] of [
      [['serve'], /no cache given/],
      [['serve', 'http://127.0.0.1:1'], /reading http:\/\/127\.0\.0\.1:1\/niche\.json failed: /],
      [['serve', 'http://cache.example.org'], /failed: over plain HTTP an attacker could choose/],
      [['serve', folder], /there is no cache at file:.*niche\.json is missing/],
      [['serve', `${folder}/absent`], /expected a directory, got nothing/],
      [['serve', folder, '--port', '65536'], /expected a port, 0 to 65535/],
      [['serve', folder, '--port', '1e3'], /expected a port, 0 to 65535/],
    ] as const) {
      const { status, stdout, stderr } = await runCommand(args);
      assert.equal(status, 1, args.join(' '));
      assert.equal(stdout, '');
      assert.match(stderr, message);
    }
  });
});
