import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { buffer } from 'node:stream/consumers';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { parseConfig } from '../../core/cache/config.ts';
import { initCache } from '../../core/cache/init.ts';
import { readAuditRecords } from '../../core/cache/audit.ts';
import { narInfoKey } from '../../core/cache/layout.ts';
import type { CacheBuckets } from '../../core/cache/layout.ts';
import { createStager } from '../../core/cache/stage/stager.ts';
import { newUploadId } from '../../core/cache/upload-id.ts';
import { defaultStoreDir } from '../../core/nix/store-path.ts';
import type { Bucket } from '../../core/storage/bucket.ts';
import { openBucket } from '../../core/storage/open/open-bucket.ts';
import { parseS3Events } from '../../functions/events/s3.ts';
import type { Health } from '../../functions/worker/worker.ts';
import { localTestPath, testPublicKey, testSecretKey } from '../support/cache/bucket-cache.ts';
import type { LocalTestPath } from '../support/cache/bucket-cache.ts';
import { requireS3 } from '../support/servers/s3-servers.ts';
import type { S3Server } from '../support/servers/s3-servers.ts';
import { temporaryFolder } from '../support/cache/small-cache.ts';

/**
 * Forwards notifications from the server to a worker. The server needs the target's URL when it
 * starts. The worker needs its cache when it starts.
 */
async function startRelay(t: TestContext) {
  const bodies: Buffer[] = [];
  const relay = { url: '', target: null as string | null, bodies };
  const server = createServer((incoming, response) => {
    void (async () => {
      const body = await buffer(incoming);
      bodies.push(body);
      if (relay.target !== null) {
        const type = incoming.headers['content-type'] ?? '';
        const headers = { authorization: 'Bearer let-me-in', 'content-type': type };
        const request = { method: 'POST', body: new Uint8Array(body), headers };
        // A stopped worker receives no more notifications.
        await fetch(relay.target, request).catch(() => undefined);
      }
      response.end();
    })();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  relay.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/events`;
  return relay;
}

interface TestWorker {
  readonly url: string;
  readonly published: { path: string; status: string }[];
  readonly log: Record<string, unknown>[];
  stop(): Promise<number | null>;
}

async function startWorker(
  t: TestContext,
  server: S3Server,
  args: readonly string[],
): Promise<TestWorker> {
  const folder = await temporaryFolder(t);
  const [keyFile, tokenFile] = [join(folder, 'key'), join(folder, 'token')];
  await writeFile(keyFile, testSecretKey, { mode: 0o600 });
  await writeFile(tokenFile, 'let-me-in\n', { mode: 0o600 });
  const main = join(import.meta.dirname, '../../cli/main.ts');
  const child = spawn(
    process.execPath,
    [
      ...[main, 'worker', ...args, '--listen', '127.0.0.1:0', '--token-file', tokenFile],
      ...['--secret-key-file', keyFile, '--json'],
    ],
    { env: { PATH: process.env['PATH'], HOME: folder, ...server.env }, stdio: 'pipe' },
  );
  const exited = once(child, 'exit');
  t.after(() => child.kill('SIGKILL'));
  const published: TestWorker['published'] = [];
  const log: Record<string, unknown>[] = [];
  createInterface({ input: child.stdout }).on('line', (line) => {
    published.push(JSON.parse(line) as TestWorker['published'][number]);
  });
  createInterface({ input: child.stderr }).on('line', (line) => {
    log.push(JSON.parse(line) as Record<string, unknown>);
  });
  const listening = () => log.find(({ event }) => event === 'listening');
  while (!listening()) {
    assert.equal(child.exitCode, null, JSON.stringify(log));
    await sleep(20);
  }
  return {
    url: String(listening()?.['url']),
    published,
    log,
    async stop() {
      child.kill('SIGTERM');
      return ((await exited) as [number | null])[0];
    },
  };
}

async function makeCache(server: S3Server): Promise<CacheBuckets> {
  const urls = {
    storage: server.url(await server.createBucket('acme')),
    // Uses a prefix, as for several caches in one bucket.
    staging: server.url(await server.createBucket('acme-staging')).replace('?', '/some/prefix?'),
    private: server.url(await server.createBucket('acme-private')).replace('?', '/some/prefix?'),
  };
  const config = parseConfig(
    JSON.stringify({
      version: 1,
      name: 'acme',
      storeDir: defaultStoreDir,
      publicKeys: [testPublicKey],
      substituter: `${server.endpoint}/acme`,
      ...urls,
    }),
    'the configuration of a test',
  );
  const { credentials } = server;
  const bucket = openBucket(urls.storage, { credentials });
  await initCache(bucket, config);
  const [staging, own] = [urls.staging, urls.private].map((url) =>
    openBucket(url, { credentials }),
  ) as [Bucket, Bucket];
  return { public: bucket, staging, private: own };
}

async function stage(bucket: Bucket, ...paths: readonly LocalTestPath[]): Promise<void> {
  const stager = createStager({
    bucket,
    upload: newUploadId(),
    storeDir: defaultStoreDir,
    onStaged: () => undefined,
    onFailed(_, error) {
      throw error;
    },
  });
  for (const path of paths) stager.addPath(path);
  await stager.finish();
}

async function untilVisible(bucket: Bucket, path: LocalTestPath): Promise<void> {
  while ((await bucket.head(narInfoKey(path.hash))) === null) await sleep(50);
}

describe('niche worker on a real S3 server', () => {
  test('publishes on the bucket’s notification, although it polls only once an hour', async (t) => {
    const relay = await startRelay(t);
    const server = await requireS3(t, 'versitygw', { webhookUrl: relay.url });
    if (server === null) return;
    const cache = await makeCache(server);
    const worker = await startWorker(t, server, [cache.public.url, '--interval', '1h']);
    const health = async (): Promise<Health> =>
      (await (await fetch(`${worker.url}/healthz`)).json()) as Health;
    while ((await health()).lastSuccess === null) await sleep(20);
    relay.target = worker.url;

    const lower = await localTestPath('lower');
    const upper = await localTestPath('upper', [lower]);
    const large = await localTestPath('large', [], Buffer.alloc(20 * 2 ** 20, 'large'));
    await stage(cache.staging, lower, upper, large);
    for (const path of [lower, upper, large]) await untilVisible(cache.public, path);

    assert.equal((await health()).lastFailure, null);
    assert.equal(await worker.stop(), 0);
    assert.deepEqual(
      worker.published.map(({ path, status }) => `${status} ${path}`).sort(),
      [lower, upper, large].map(({ path }) => `published ${path}`).sort(),
    );
    assert.deepEqual(
      worker.log.map(({ event }) => event),
      ['started', 'listening', 'stopping', 'stopped'],
    );
    const { accessKeyId } = server.credentials;
    for await (const { origin } of readAuditRecords(cache.private)) {
      assert.equal(origin?.via, 'event');
      assert.equal(origin.principal, accessKeyId);
    }
    const events = relay.bodies.flatMap((body) => parseS3Events(body));
    assert.ok(events.some(({ key }) => key.startsWith('some/prefix/staging/')));
  });

  test('publishes without notifications, and concurrently with another worker', async (t) => {
    const server = await requireS3(t);
    if (server === null) return;
    const cache = await makeCache(server);
    const args = [cache.public.url, '--interval', '100ms'];
    const workers = await Promise.all([1, 2].map(() => startWorker(t, server, args)));
    const paths = await Promise.all(
      Array.from({ length: 20 }, (_, number) => localTestPath(`path-${number}`)),
    );
    for (const path of paths) await stage(cache.staging, path);
    for (const path of paths) await untilVisible(cache.public, path);
    for (const worker of workers) assert.equal(await worker.stop(), 0);
    const outcomes = workers.flatMap(({ published }) => published);
    assert.deepEqual(
      outcomes.flatMap(({ status, path }) => (status === 'published' ? [path] : [])).sort(),
      paths.map(({ path }) => path).sort(),
    );
    assert.deepEqual(
      workers.flatMap(({ log }) => log).filter(({ event }) => event === 'failed'),
      [],
    );
  });
});
