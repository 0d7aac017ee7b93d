import assert from 'node:assert/strict';
import { it, type TestContext } from 'node:test';
import { openAzureBucket } from '../../core/storage/azure/driver.ts';
import { blockBytes } from '../../core/storage/azure/block-upload.ts';
import type { Bucket } from '../../core/storage/bucket.ts';
import { openGoogleBucket } from '../../core/storage/google/driver.ts';
import { partBytes } from '../../core/storage/google/resumable-upload.ts';
import { requireAzurite } from '../support/servers/azurite.ts';
import { listKeys, patternBytes, readObject } from '../support/assert/bytes.ts';
import { requireFakeGcs } from '../support/servers/fake-gcs.ts';
import { startFaultProxy, type FaultProxy } from '../support/servers/fault-proxy.ts';

const keys = Array.from({ length: 20 }, (_, index) => `object/${index}`);
const ifAbsent = { ifAbsent: true };

/** Returns the number of requests of each operation, as documented in docs/cost.md. */
async function requestsOf(
  bucket: Bucket,
  proxy: FaultProxy,
  largeBytes: number,
): Promise<Record<string, number>> {
  async function count(work: () => Promise<unknown>): Promise<number> {
    const before = proxy.requests.length;
    await work();
    return proxy.requests.length - before;
  }
  // Exclude requests that are made once per process.
  await bucket.head('nothing');
  for (const key of keys) await bucket.put(key, Buffer.from(key));
  const { etag } = (await bucket.head('object/0'))!;
  return {
    put: await count(() => bucket.put('object/new', Buffer.from('x'), ifAbsent)),
    exists: await count(() => bucket.put('object/new', Buffer.from('y'), ifAbsent)),
    replace: await count(() => bucket.replace('object/0', Buffer.from('z'), etag)),
    head: await count(() => bucket.head('object/1')),
    missing: await count(() => bucket.head('nothing')),
    get: await count(() => readObject(bucket, 'object/1')),
    range: await count(() => readObject(bucket, 'object/1', { range: { start: 1, end: 3 } })),
    list: await count(() => listKeys(bucket)),
    delete20: await count(() => bucket.delete(keys)),
    upload3Parts: await count(async () => {
      const upload = await bucket.upload('large');
      await upload.write(patternBytes(largeBytes));
      await upload.commit(ifAbsent);
    }),
  };
}

const single = { put: 1, exists: 1, replace: 1, head: 1, missing: 1, get: 1, range: 1, list: 1 };

async function proxied(t: TestContext, origin: string): Promise<FaultProxy> {
  const proxy = await startFaultProxy(origin);
  t.after(() => proxy.stop());
  return proxy;
}

it('counts requests to Azure', async (t) => {
  const server = await requireAzurite(t);
  if (server === null) return;
  const proxy = await proxied(t, server.origin);
  const url = server.url(await server.createContainer(), proxy.url);
  const bucket = openAzureBucket(url, { credentials: server.credentials });
  assert.deepEqual(await requestsOf(bucket, proxy, 2 * blockBytes + 1), {
    ...single,
    delete20: 20,
    upload3Parts: 3 + 1,
  });
});

it('counts requests to Google', async (t) => {
  const server = await requireFakeGcs(t);
  if (server === null) return;
  const proxy = await proxied(t, server.origin);
  const url = server.url(await server.createBucket(), proxy.url);
  const bucket = openGoogleBucket(url, { credentials: { kind: 'anonymous' } });
  assert.deepEqual(await requestsOf(bucket, proxy, 2 * partBytes + 1), {
    ...single,
    delete20: 20,
    upload3Parts: 2 + 3,
  });
});
