import { after, describe } from 'node:test';
import { openAzureBucket } from '../../core/storage/azure/driver.ts';
import { blockBytes } from '../../core/storage/azure/block-upload.ts';
import { startAzurite, whyNoAzurite, type Azurite } from '../support/servers/azurite.ts';
import { storageFaults } from './faults.ts';

const retry = { maxAttempts: 3, firstBackoffMs: 10, maxBackoffMs: 50 };

describe('Azure behind a faulty link', { skip: whyNoAzurite() }, behindFaults);

function behindFaults(): void {
  let starting: Promise<Azurite> | undefined;
  after(async () => (await starting)?.stop());

  storageFaults('Azure on Azurite', async () => {
    starting ??= startAzurite();
    const server = await starting;
    return {
      origin: server.origin,
      async open(through, idleTimeoutMs) {
        const url = server.url(await server.createContainer(), through);
        return openAzureBucket(url, {
          credentials: server.credentials,
          idleTimeoutMs,
          retry,
        });
      },
      denied: answer(403, 'AuthorizationPermissionMismatch'),
      throttled: answer(503, 'ServerBusy', { 'retry-after': '0' }),
      down: answer(500, 'InternalError'),
      isAbout: (path, key) => path.split('?')[0]?.endsWith(`/${key}`) === true,
      largeBytes: 2 * blockBytes + 5,
    };
  });
}

function answer(status: number, code: string, headers: Record<string, string> = {}) {
  return {
    status,
    headers: { 'content-type': 'application/xml', 'x-ms-error-code': code, ...headers },
    body: `<?xml version="1.0" encoding="utf-8"?><Error><Code>${code}</Code><Message>${code}</Message></Error>`,
  };
}
