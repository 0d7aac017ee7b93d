import { fork } from 'node:child_process';
import { hash } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { openFastPut } from '../core/storage/s3/fast-put.ts';
import * as sdk from '../core/storage/s3/sdk.ts';
import { Sha256 } from '../core/storage/s3/sha256.ts';

/*
 * The CPU time of small PUTs by core/storage/s3/fast-put.ts and by the SDK's own command, to a
 * server in another process that accepts everything. Requests are sent one after another.
 */

const count = 1000;
const rounds = 3;

if (process.send === undefined) await measure();
else serve();

function serve(): void {
  const server = createServer((incoming, outgoing) => {
    incoming.resume().on('end', () => outgoing.writeHead(200, { etag: '"1"' }).end());
  });
  server.listen(0, '127.0.0.1', () => process.send?.((server.address() as AddressInfo).port));
}

async function measure(): Promise<void> {
  const server = fork(import.meta.filename);
  try {
    const [port] = (await once(server, 'message')) as [number];
    const client = new sdk.S3Client({
      region: 'us-east-1',
      endpoint: `http://127.0.0.1:${port}`,
      forcePathStyle: true,
      credentials: { accessKeyId: 'id', secretAccessKey: 'secret' },
      sha256: Sha256,
      cacheMiddleware: true,
      requestChecksumCalculation: 'WHEN_REQUIRED',
    });
    const Body = Buffer.alloc(1000, 'x');
    const digest = hash('sha256', Body, 'buffer');
    const put = { Bucket: 'bucket', Key: 'key', Body };
    const fastPut = await openFastPut(sdk, client, put.Bucket);
    for (let round = 1; round <= rounds; round += 1) {
      const ours = await cpuSeconds(() => fastPut?.(put, digest));
      const theirs = await cpuSeconds(() => client.send(new sdk.PutObjectCommand(put)));
      console.log(
        `round ${round}: ${count} PUTs take ${ours.toFixed(2)} s of CPU by fast-put, ${theirs.toFixed(2)} s by the SDK's command`,
      );
    }
    client.destroy();
  } finally {
    server.kill();
  }
}

async function cpuSeconds(send: () => Promise<unknown> | undefined): Promise<number> {
  const before = process.cpuUsage();
  for (let sent = 0; sent < count; sent += 1) await send();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1e6;
}
