import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import { partBytes } from '../../core/storage/google/resumable-upload.ts';
import { openGoogleBucket, type GoogleOptions } from '../../core/storage/google/driver.ts';
import { multipartUploads } from './cloud-cases.ts';
import { bucketConformance } from './conformance.ts';
import { patternBytes } from '../support/assert/bytes.ts';
import { startFakeGcs, whyNoFakeGcs, type FakeGcs } from '../support/servers/fake-gcs.ts';
import { startFaultProxy, type Fault } from '../support/servers/fault-proxy.ts';

describe('Google on fake-gcs-server', { skip: whyNoFakeGcs() }, onFakeGcs);

function onFakeGcs(): void {
  let starting: Promise<FakeGcs> | undefined;
  after(async () => (await starting)?.stop());

  async function started(): Promise<FakeGcs> {
    starting ??= startFakeGcs();
    return starting;
  }

  async function opened(options: GoogleOptions = {}) {
    const server = await started();
    const name = await server.createBucket();
    const bucket = openGoogleBucket(server.url(name), {
      credentials: { kind: 'anonymous' },
      ...options,
    });
    return {
      server,
      name,
      bucket,
      close: () => Promise.resolve(),
      partBytes,
      publicUrl: server.publicUrl(name),
      again: () => openGoogleBucket(server.url(name), { credentials: { kind: 'anonymous' } }),
    };
  }

  bucketConformance('Google on fake-gcs-server', opened);

  multipartUploads('Google on fake-gcs-server', {
    partBytes,
    async open() {
      const { bucket, again } = await opened();
      return [bucket, again()];
    },
  });

  it('gives up on an upload that the server never completes', async (t) => {
    const { server, name } = await opened();
    const proxy = await startFaultProxy(server.origin);
    t.after(() => proxy.stop());
    const bucket = openGoogleBucket(server.url(name, proxy.url), {
      credentials: { kind: 'anonymous' },
      retry: { maxAttempts: 2, firstBackoffMs: 1 },
    });
    const upload = await bucket.upload('object');
    await upload.write(patternBytes(partBytes + 10));
    const unfinished: Fault = {
      kind: 'edited',
      edit: ({ headers }) => ({
        status: 308,
        headers: { ...headers, 'content-length': '0', range: `bytes=0-${partBytes + 9}` },
        body: Buffer.alloc(0),
      }),
    };
    proxy.inject(({ method }) => (method === 'PUT' ? unfinished : null));
    await assert.rejects(upload.commit(), { code: 'storage-unavailable' });
  });
}
