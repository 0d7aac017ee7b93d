import { after, describe } from 'node:test';
import { blockBytes } from '../../core/storage/azure/block-upload.ts';
import { openAzureBucket, type AzureOptions } from '../../core/storage/azure/driver.ts';
import { multipartUploads } from './cloud-cases.ts';
import { bucketConformance } from './conformance.ts';
import { startAzurite, whyNoAzurite, type Azurite } from '../support/servers/azurite.ts';

describe('Azure on Azurite', { skip: whyNoAzurite() }, onAzurite);

function onAzurite(): void {
  let starting: Promise<Azurite> | undefined;
  after(async () => (await starting)?.stop());

  async function started(): Promise<Azurite> {
    starting ??= startAzurite();
    return starting;
  }

  async function opened(options: AzureOptions = {}) {
    const server = await started();
    const container = await server.createContainer('blob');
    const bucket = openAzureBucket(server.url(container), {
      credentials: server.credentials,
      ...options,
    });
    return {
      server,
      container,
      bucket,
      close: () => Promise.resolve(),
      partBytes: blockBytes,
      publicUrl: `${server.origin}/${server.account}/${container}`,
      again: () => openAzureBucket(server.url(container), { credentials: server.credentials }),
    };
  }

  bucketConformance('Azure on Azurite', opened);

  multipartUploads('Azure on Azurite', {
    partBytes: blockBytes,
    async open() {
      const { bucket, again } = await opened();
      return [bucket, again()];
    },
  });
}
