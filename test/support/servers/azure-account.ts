import { BlobServiceClient } from '@azure/storage-blob';
import { QueueServiceClient } from '@azure/storage-queue';
import { programPath } from '../assert/required.ts';
import { freePort } from './free-port.ts';
import { startServerProcess } from './server-process.ts';
import { until } from '../assert/until.ts';

/** A storage account with blobs and queues: a real Azurite, on 127.0.0.1. */
export interface AzureAccount {
  readonly connectionString: string;
  readonly blobs: BlobServiceClient;
  readonly queues: QueueServiceClient;
  readonly name: string;
  /** `azure://account/container?endpoint=…` */
  url(container: string): string;
  /** Returns the URL at which everyone can read a public container. */
  publicUrl(container: string): string;
  stop(): Promise<void>;
}

/** The well-known account of Azurite. */
const name = 'devstoreaccount1';
const key =
  'Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==';

export async function startAzureAccount(): Promise<AzureAccount> {
  const [queuePort, tablePort] = [await freePort(), await freePort()];
  const server = await startServerProcess('azurite', (port, folder) => [
    process.execPath,
    programPath('azurite'),
    ...['--blobHost', '127.0.0.1', '--blobPort', String(port)],
    ...['--queueHost', '127.0.0.1', '--queuePort', String(queuePort)],
    ...['--tableHost', '127.0.0.1', '--tablePort', String(tablePort)],
    ...['--location', folder, '--silent', '--disableTelemetry', '--skipApiVersionCheck'],
  ]);
  const queueOrigin = `http://127.0.0.1:${queuePort}`;
  const connectionString = [
    'DefaultEndpointsProtocol=http',
    `AccountName=${name}`,
    `AccountKey=${key}`,
    `BlobEndpoint=${server.origin}/${name}`,
    `QueueEndpoint=${queueOrigin}/${name}`,
  ].join(';');
  const blobs = BlobServiceClient.fromConnectionString(connectionString);
  const queues = QueueServiceClient.fromConnectionString(connectionString);
  await until('the queue server answers', async () => {
    const answer = await fetch(queueOrigin).catch(() => null);
    await answer?.body?.cancel();
    return answer !== null;
  });
  return {
    ...{ connectionString, blobs, queues, name },
    stop: () => server.stop(),
    url: (container) => `azure://${name}/${container}?endpoint=${server.origin}/${name}`,
    publicUrl: (container) => `${server.origin}/${name}/${container}`,
  };
}
