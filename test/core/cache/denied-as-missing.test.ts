import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { deniedAsMissing } from '../../../core/cache/denied-as-missing.ts';
import { openReader } from '../../../core/cache/open.ts';
import { NicheError } from '../../../core/errors.ts';
import { memoryBucket } from '../../support/buckets/memory-bucket.ts';
import { serveAnswers } from '../../support/cache/http.ts';

const hash = '0'.repeat(32);
const narInfo = `${hash}.narinfo`;
const denied = { code: 'storage-denied' };

/** A bucket that denies everything but nix-cache-info, or everything once its credentials expire. */
async function denyingBucket() {
  const requests: string[] = [];
  const credentials = { valid: true };
  const bucket = memoryBucket({
    before(_, key) {
      requests.push(key);
      if (!credentials.valid || key !== 'nix-cache-info') {
        throw new NicheError('storage-denied', 'denied');
      }
    },
  });
  await bucket.put('nix-cache-info', Buffer.from('StoreDir: /nix/store\n'));
  requests.splice(0);
  return { requests, credentials, bucket, reader: deniedAsMissing(bucket) };
}

describe('a denied object that need not exist', () => {
  test('is missing where nix-cache-info is readable; other objects stay denied', async () => {
    const { reader } = await denyingBucket();
    assert.equal(await reader.get(narInfo), null);
    assert.equal(await reader.head(`${hash}.ls`), null);
    assert.equal(await reader.get('log/x.drv'), null);
    assert.equal(await reader.get('niche.client.json'), null);
    await assert.rejects(reader.get(`nar/${hash}.nar.zst`), denied);
  });

  test('is denied where nix-cache-info is denied or missing', async () => {
    const { bucket, reader, credentials } = await denyingBucket();
    credentials.valid = false;
    await assert.rejects(reader.get(narInfo), denied);
    credentials.valid = true;
    await bucket.delete(['nix-cache-info']).catch(() => undefined);
    const empty = deniedAsMissing({ ...bucket, head: () => Promise.resolve(null) });
    await assert.rejects(empty.get(narInfo), denied);
  });

  test('is denied once the credentials expire, and missing again once they recover', async () => {
    const { reader, credentials } = await denyingBucket();
    assert.equal(await reader.get(narInfo), null);
    credentials.valid = false;
    await assert.rejects(reader.get(narInfo), denied);
    await assert.rejects(reader.head(narInfo), denied);
    credentials.valid = true;
    assert.equal(await reader.get(narInfo), null);
  });

  test('costs one request for nix-cache-info per burst of denials, and one per later denial', async () => {
    const { reader, requests } = await denyingBucket();
    const probes = (): number => requests.filter((key) => key === 'nix-cache-info').length;
    await Promise.all(Array.from({ length: 32 }, () => reader.get(narInfo)));
    assert.equal(probes(), 1);
    await reader.get(narInfo);
    await reader.get(narInfo);
    assert.equal(probes(), 3);
  });

  test('is not decided by a request that began before the denial', async () => {
    const { bucket, credentials } = await denyingBucket();
    const look = Promise.withResolvers<null>();
    const looking = Promise.withResolvers<null>();
    let looks = 0;
    const reader = deniedAsMissing({
      ...bucket,
      async head(key) {
        const info = await bucket.head(key);
        looks += 1;
        looking.resolve(null);
        // The first response is still in flight when the credentials expire.
        if (looks === 1) await look.promise;
        return info;
      },
    });
    const before = reader.get(narInfo);
    await looking.promise;
    credentials.valid = false;
    const after = reader.get(narInfo);
    const refused = assert.rejects(after, denied);
    await new Promise(setImmediate);
    look.resolve(null);
    assert.equal(await before, null);
    await refused;
  });

  test('ends when the caller aborts', async () => {
    const { reader } = await denyingBucket();
    await assert.rejects(reader.get(narInfo, { signal: AbortSignal.abort() }), { code: 'aborted' });
  });

  test('ends when the caller aborts while nix-cache-info is in flight', async () => {
    const { bucket } = await denyingBucket();
    const caller = new AbortController();
    const reader = deniedAsMissing({
      ...bucket,
      head() {
        caller.abort();
        return new Promise<never>(() => undefined);
      },
    });
    const reading = reader.get(narInfo, { signal: caller.signal });
    await assert.rejects(reading, { code: 'aborted' });
  });

  test('keeps the other methods of a bucket', async () => {
    const { bucket, reader } = await denyingBucket();
    assert.deepEqual(Object.keys(reader), Object.keys(bucket));
  });
});

describe('a cache over HTTP that answers 403', () => {
  test('lacks the path while nix-cache-info answers 200, and denies it afterwards', async (t) => {
    let isPublic = true;
    const { url, requests } = await serveAnswers(t, (path, response) => {
      response.writeHead(path === 'nix-cache-info' && isPublic ? 200 : 403).end();
    });
    const reader = openReader(url);
    assert.equal(await reader.get(narInfo), null);
    assert.deepEqual(requests, [narInfo, 'nix-cache-info']);
    isPublic = false;
    await assert.rejects(reader.get(narInfo), denied);
    isPublic = true;
    assert.equal(await reader.head(narInfo), null);
  });

  test('denies a path for which it answers 401, even if nix-cache-info is readable', async (t) => {
    const { url } = await serveAnswers(t, (path, response) => {
      response.writeHead(path === 'nix-cache-info' ? 200 : 401).end();
    });
    await assert.rejects(openReader(url).get(narInfo), denied);
  });

  test('is requested again after nix-cache-info could not be read', async (t) => {
    let status = 400;
    const { url } = await serveAnswers(t, (path, response) => {
      response.writeHead(path === 'nix-cache-info' ? status : 403).end();
    });
    const reader = openReader(url);
    await assert.rejects(reader.get(narInfo), denied);
    status = 200;
    assert.equal(await reader.get(narInfo), null);
  });
});
