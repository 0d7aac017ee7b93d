import { after, describe } from 'node:test';
import { partBytes } from '../../core/storage/google-upload.ts';
import { openGoogleBucket, type GoogleOptions } from '../../core/storage/google.ts';
import { partedUploads } from './cloud-cases.ts';
import { bucketConformance } from './conformance.ts';
import { startFakeGcs, whyNoFakeGcs, type FakeGcs } from '../support/fake-gcs.ts';

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

  partedUploads('Google on fake-gcs-server', {
    partBytes,
    async open() {
      const { bucket, again } = await opened();
      return [bucket, again()];
    },
  });
}
