import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';

import { openS3Bucket } from '../../core/storage/s3/driver.ts';
import { parseS3Url } from '../../core/storage/s3/url.ts';
import { listKeys } from '../support/assert/bytes.ts';
import { createMachine, skipUnlessChroot } from '../support/lab/e2e-machine.ts';
import { startFaultProxy } from '../support/servers/fault-proxy.ts';
import { requireNix } from '../support/lab/nix-lab.ts';
import { requireS3, s3ServerNames } from '../support/servers/s3-servers.ts';
import { initCache, readerOf } from './made.ts';

const slowDown = {
  status: 503,
  headers: { 'content-type': 'application/xml' },
  body: '<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code><Message>slow</Message></Error>',
};

for (const name of s3ServerNames) {
  describe(`a cache in S3 on ${name}`, { concurrency: false }, () => {
    test('is created, filled by a build, published by a worker, and substituted from', async (t) => {
      const server = await requireS3(t, name);
      const nix = requireNix(t);
      if (server === null || nix === null) return;
      const machine = await createMachine(t, { nix });
      if (skipUnlessChroot(t, machine)) return;
      const { env } = server;
      const made = await initCache(machine, server.url('acme'), server.env);
      assert.equal(made.substituter, `${server.endpoint}/acme`);
      // No preset exists for this server, so init detects its capabilities.
      assert.match(made.storage, /^s3:\/\/acme\?.*conditional=yes$/);
      assert.match(made.staging, /^s3:\/\/acme-staging\?.*conditional=yes$/);
      assert.match(made.private, /^s3:\/\/acme-private\?.*conditional=yes$/);
      const again = await machine.niche(
        ['init', server.url('acme'), '--create', '--name', 'acme', '--no-upstream'],
        { env },
      );
      assert.match(again.stderr, /there is a cache/);

      await machine.writeGraph([{ name: 'lower' }, { name: 'upper', deps: ['lower'] }]);
      const url = server.url('acme');
      const built = await machine.nicheDoes(
        [
          'build',
          '-u',
          url,
          '--no-publish',
          '--',
          '-f',
          '.',
          'upper',
          '--print-out-paths',
          '--no-link',
        ],
        { env },
      );
      const upper = built.stdout.trim();
      const worked = await machine.nicheDoes(['worker', url, '--once'], { env });
      assert.match(worked.stderr, /2 paths published, 0 rejected/);
      await machine.nicheDoes(['verify', '-u', url], { env });
      const staged = openS3Bucket(parseS3Url(made.staging), { credentials: server.credentials });
      assert.deepEqual(await listKeys(staged, 'staging/'), []);

      const copying = await readerOf(t, machine, made);
      await copying.output('nix', ['copy', '--from', made.substituter, upper]);
      const substituting = await readerOf(t, machine, made);
      await substituting.output('nix-store', ['--realise', upper]);
      await substituting.output('nix-store', ['--verify-path', upper]);
      const strangers = await createMachine(t, {
        nix,
        settings: { substituters: made.substituter, 'require-sigs': 'true' },
      });
      const refused = await strangers.run('nix-store', ['--realise', upper]);
      assert.notEqual(refused.status, 0);
    });

    // One server is enough: the test above covers the differences.
    if (name !== 'versitygw') return;
    test('publishes in the build process, and nix reads it as s3://', async (t) => {
      const server = await requireS3(t, name);
      const nix = requireNix(t);
      if (server === null || nix === null) return;
      const machine = await createMachine(t, { nix });
      if (skipUnlessChroot(t, machine)) return;
      const { env } = server;
      const made = await initCache(machine, `${server.url('acme')}&conditional=yes`, env);
      await machine.writeGraph([{ name: 'lower' }, { name: 'upper', deps: ['lower'] }]);
      const upper = await machine.output('nix-build', ['--no-out-link', '-A', 'upper']);
      const pushed = await machine.nicheDoes(
        ['push', '-u', made.storage, '--publish', 'local', upper],
        { env },
      );
      assert.match(pushed.stderr, /2 paths published/);
      const reader = await readerOf(t, machine, made);
      const s3 = `s3://acme?region=${server.region}&scheme=http&endpoint=${server.endpoint.slice('http://'.length)}`;
      const ran = await reader.run('nix', ['copy', '--from', s3, upper], { env });
      if (/don.t know how to open|without S3|is not supported/i.test(ran.stderr)) {
        t.diagnostic(`Nix ${nix.version} is built without S3`);
        return;
      }
      assert.equal(ran.status, 0, ran.stderr);
      await reader.output('nix-store', ['--verify-path', upper]);
    });
  });
}

describe('a cache in rate-limited S3', { concurrency: false }, () => {
  test('receives 2,000 paths through a server that allows 100 requests a second, or 10', async (t) => {
    const server = await requireS3(t);
    const nix = requireNix(t);
    if (server === null || nix === null) return;
    const machine = await createMachine(t, { nix });
    const proxy = await startFaultProxy(server.endpoint);
    t.after(() => proxy.stop());
    await initCache(machine, `${server.url('acme', proxy.url)}&conditional=yes`, server.env);
    const sources = join(machine.work, 'sources');
    await mkdir(sources);
    const files = Array.from({ length: 2000 }, (_, number) => join(sources, `source-${number}`));
    for (const file of files) await writeFile(file, `${file}\n`);
    const paths: string[] = [];
    for (let next = 0; next < files.length; next += 500) {
      const added = await machine.output('nix-store', ['--add', ...files.slice(next, next + 500)]);
      paths.push(...added.split('\n'));
    }
    // Batches need so few requests that only the second limit applies.
    for (const perSecond of [100, 10]) {
      proxy.limit(perSecond, slowDown);
      const before = proxy.requests.length;
      const report = join(machine.work, `report-${perSecond}.jsonl`);
      // Uses a separate local cache, so that all paths are staged again.
      const XDG_CACHE_HOME = join(machine.work, `known-${perSecond}`);
      const pushed = await machine.nicheDoes(
        ['push', '-u', server.url('acme', proxy.url), '--no-publish', '--report', report],
        { env: { ...server.env, XDG_CACHE_HOME }, input: paths.join('\n') },
      );
      assert.match(pushed.stderr, /2,?000 paths staged/);
      const sent = proxy.requests.length - before;
      t.diagnostic(`${sent} requests, ${proxy.overLimit} over ${perSecond} a second`);
    }
    assert.ok(proxy.overLimit > 0);
  });
});
