import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';

import type { S3Credentials } from '../../core/storage/credentials.ts';
import { openS3Bucket } from '../../core/storage/s3/driver.ts';
import { parseS3Url } from '../../core/storage/s3/url.ts';
import { listKeys } from '../support/assert/bytes.ts';
import { createMachine } from '../support/lab/e2e-machine.ts';
import { startFaultProxy, type Fault } from '../support/servers/fault-proxy.ts';
import { spawnNiche } from '../support/lab/niche-process.ts';
import { requireNix } from '../support/lab/nix-lab.ts';
import { requireS3 } from '../support/servers/s3-servers.ts';
import { readerOf, type Made } from './made.ts';
import { until } from '../support/assert/until.ts';

const conditions = ['if-none-match', 'if-match'];

const ignoring = (credentials: S3Credentials): Fault => ({
  kind: 'without',
  headers: conditions,
  credentials,
});

const refusing = (): Fault => ({
  kind: 'answer',
  status: 501,
  body: '<Error><Code>NotImplemented</Code></Error>',
});

/** How servers without conditional writes handle a condition. */
const servers: Readonly<
  Record<string, { fault: typeof ignoring; parameters: string; storage: RegExp }>
> = {
  refuses: {
    fault: refusing,
    parameters: '',
    storage: /&conditional=no$/,
  },
  ignores: {
    fault: ignoring,
    parameters: '',
    storage: /&conditional=no$/,
  },
  // Older releases of this server lack conditional writes.
  'ignores, against its preset,': {
    fault: ignoring,
    parameters: '&provider=minio',
    storage: /&provider=minio&conditional=no$/,
  },
  'ignores, as its preset states,': {
    fault: ignoring,
    parameters: '&provider=wasabi',
    storage: /&provider=wasabi$/,
  },
};

const weaker =
  /this storage does not write conditionally: only one process may publish at a time, and it may overwrite what other programs write meanwhile\n/;

async function startServer(t: TestContext, fault: typeof ignoring) {
  const server = await requireS3(t);
  if (server === null) return null;
  const proxy = await startFaultProxy(server.endpoint);
  t.after(() => proxy.stop());
  const ignored: string[] = [];
  proxy.inject(({ method, path, headers }) => {
    const isConditional = conditions.some((header) => headers[header] !== undefined);
    if (!isConditional || (method !== 'PUT' && method !== 'POST')) return null;
    ignored.push(path);
    return fault(server.credentials);
  });
  return { ...server, proxy, ignored };
}

describe('a cache without conditional writes', { concurrency: false }, () => {
  for (const [does, { fault, parameters, storage }] of Object.entries(servers)) {
    test(`the server ${does} conditions: one process publishes, real Nix reads`, async (t) => {
      const nix = requireNix(t);
      const server = await startServer(t, fault);
      if (server === null || nix === null) return;
      const { env, proxy } = server;
      const machine = await createMachine(t, { nix });
      const url = server.url('acme', proxy.url) + parameters;
      const init = ['init', url, '--create', '--name', 'acme', '--no-upstream', '--json'];
      const told = await machine.nicheDoes(init, { env });
      const made = JSON.parse(told.stdout) as Made;
      assert.match(made.storage, storage);
      assert.match(made.staging, storage);
      assert.match(made.private, storage);
      assert.match(told.stderr, weaker);
      const atInit = server.ignored.length;

      await machine.writeGraph([{ name: 'lower' }, { name: 'upper', deps: ['lower'] }]);
      const upper = await machine.output('nix-build', ['--no-out-link', '-A', 'upper']);
      // Uses the plain URL. The cache's configuration contains the server's capabilities.
      const worker = spawnNiche(['worker', url, '--interval', '200ms'], {
        cwd: machine.work,
        env: { ...machine.env, ...env },
      });
      t.after(() => worker.process.kill('SIGKILL'));
      const bucket = openS3Bucket(parseS3Url(made.private), { credentials: server.credentials });
      const leases = (): Promise<string[]> => listKeys(bucket, 'publishers/');
      await until('the worker runs', async () => (await leases()).length > 0);

      const holder = new RegExp(
        `^niche: another process publishes to s3://acme-private\\?.*: "process ${worker.process.pid!} on .*"\nhint: this storage does not write conditionally, so only one process may publish: stop the other, or stage with --no-publish\n$`,
        'm',
      );
      const second =
        parameters === '' ? ['worker', url] : ['push', '-u', url, '--publish', 'local'];
      const refused = await machine.niche(second, { env, input: upper });
      assert.equal(refused.status, 1, refused.stderr);
      assert.match(refused.stderr, weaker);
      assert.match(refused.stderr, holder);
      assert.equal((await leases()).length, 1, 'what was refused left no lease');

      await machine.nicheDoes(['push', '-u', url, '--wait', '60s', upper], { env });
      worker.interrupt('SIGTERM');
      const ended = await worker.ended;
      assert.equal(ended.status, 0);
      assert.match(ended.stderr, weaker);
      assert.match(ended.stderr, /2 paths published, 0 rejected/);
      assert.deepEqual(await leases(), []);
      await machine.nicheDoes(['push', '-u', url, '--publish', 'local', upper], { env });
      await machine.nicheDoes(['verify', '-u', url], { env });
      assert.equal(server.ignored.length, atInit, 'no condition is relied on after init');

      const reader = await readerOf(t, machine, made);
      await reader.output('nix', ['copy', '--from', made.substituter, upper]);
      await reader.output('nix-store', ['--verify-path', upper]);
    });
  }

  for (const [stated, ignored, found, does] of [
    ['yes', ['PUT', 'POST'], 'no', 'ignores conditional writes'],
    ['yes', ['POST'], 'put', 'honours only the conditions of single writes'],
    ['put', ['PUT', 'POST'], 'no', 'ignores conditional writes'],
  ] as const) {
    test(`init fails if conditional=${stated} claims more than the server supports`, async (t) => {
      const nix = requireNix(t);
      const server = await startServer(t, ignoring);
      if (server === null || nix === null) return;
      server.proxy.inject(({ method }) =>
        ignored.some((each) => each === method) ? ignoring(server.credentials) : null,
      );
      const { env } = server;
      const machine = await createMachine(t, { nix });
      const url = `${server.url('acme', server.proxy.url)}&conditional=${stated}`;
      const init = ['init', url, '--create', '--name', 'acme', '--no-upstream'];
      const refused = await machine.niche(init, { env });
      assert.equal(refused.status, 1);
      assert.match(
        refused.stderr,
        new RegExp(
          `^niche: s3://acme\\?.* states conditional=${stated}, but its server ${does}: two publishers would overwrite each other’s objects\nhint: write conditional=${found}, or omit it: niche init detects it\n$`,
        ),
      );
      const bucket = openS3Bucket(parseS3Url(url), { credentials: server.credentials });
      assert.deepEqual(await listKeys(bucket), [], 'nothing is left of the trial');
    });
  }
});
