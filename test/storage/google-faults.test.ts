import { after, describe } from 'node:test';
import { openGoogleBucket } from '../../core/storage/google/driver.ts';
import { partBytes } from '../../core/storage/google/resumable-upload.ts';
import { startFakeGcs, whyNoFakeGcs, type FakeGcs } from '../support/servers/fake-gcs.ts';
import { storageFaults } from './faults.ts';

const retry = { maxAttempts: 3, firstBackoffMs: 10, maxBackoffMs: 50 };

describe('Google behind a faulty link', { skip: whyNoFakeGcs() }, behindFaults);

function behindFaults(): void {
  let starting: Promise<FakeGcs> | undefined;
  after(async () => (await starting)?.stop());

  storageFaults('Google on fake-gcs-server', async () => {
    starting ??= startFakeGcs();
    const server = await starting;
    return {
      origin: server.origin,
      async open(through, idleTimeoutMs) {
        const url = server.url(await server.createBucket(), through);
        return openGoogleBucket(url, {
          credentials: { kind: 'anonymous' },
          idleTimeoutMs,
          retry,
        });
      },
      denied: answer(403, 'forbidden'),
      throttled: answer(503, 'backendError', { 'retry-after': '0' }),
      down: answer(500, 'internalError'),
      isAbout: (path, key) => {
        const { pathname, searchParams } = new URL(path, 'http://localhost');
        return pathname.endsWith(`/${key}`) || searchParams.get('name') === key;
      },
      largeBytes: 2 * partBytes + 5,
    };
  });
}

function answer(code: number, reason: string, headers: Record<string, string> = {}) {
  return {
    status: code,
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ error: { code, message: reason, errors: [{ reason }] } }),
  };
}
