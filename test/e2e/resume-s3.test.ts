import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { ListMultipartUploadsCommand, ListPartsCommand } from '@aws-sdk/client-s3';

import { manifestKey, stagedNarsKey } from '../../core/cache/layout.ts';
import type { BatchId } from '../../core/cache/layout.ts';
import { openBucket } from '../../core/storage/open/open-bucket.ts';
import { collect } from '../support/assert/bytes.ts';
import { largeTestPath } from '../support/cache/paths.ts';
import { requireS3 } from '../support/servers/s3-servers.ts';
import type { S3Server } from '../support/servers/s3-servers.ts';
import { temporaryFolder } from '../support/cache/small-cache.ts';

const child = join(import.meta.dirname, '../support/buckets/stage-large-child.ts');
const mib = 2 ** 20;

describe('kill -9 while a large NAR is staged on S3', () => {
  test('the next run uploads only the missing parts', async (t) => {
    const server = await requireS3(t);
    if (server === null) return;
    const name = await server.createBucket();
    const file = join(await temporaryFolder(t), 'cache.sqlite');
    const start = (stallAfter: number): ChildProcess =>
      spawn(process.execPath, [child, server.url(name), file, String(stallAfter)], {
        env: { ...process.env, ...server.env },
        stdio: ['ignore', 'pipe', 'inherit'],
      });

    const first = start(40 * mib);
    t.after(() => first.kill('SIGKILL'));
    await once(first.stdout!, 'data');
    while ((await storedParts(server, name)) < 16 * mib) await sleep(20);
    first.kill('SIGKILL');
    await once(first, 'exit');

    const second = start(0);
    const [status, said] = await Promise.all([
      once(second, 'exit').then(([code]) => code as number),
      text(second.stdout!),
    ]);
    assert.equal(status, 0);
    const { id, upload, sent } = JSON.parse(said) as { id: BatchId; upload: string; sent: number };
    const { nar } = await largeTestPath();
    assert.ok(sent <= nar.length - 16 * mib, `${sent} bytes were sent`);
    assert.notEqual(id.upload, upload, 'the batch is the first run’s');
    const bucket = openBucket(server.url(name), { credentials: server.credentials });
    assert.notEqual(await bucket.head(manifestKey(id)), null);
    const stored = await bucket.get(stagedNarsKey(id, 'none'));
    assert.ok(nar.equals(await collect(stored!.body)));
    assert.equal(await storedParts(server, name), 0);
  });
});

/** Returns the bytes of the parts of the upload in flight, or 0 if there is none. */
async function storedParts({ admin }: S3Server, bucket: string): Promise<number> {
  const { Uploads = [] } = await admin.send(new ListMultipartUploadsCommand({ Bucket: bucket }));
  const [only] = Uploads;
  if (!only) return 0;
  const { Parts = [] } = await admin.send(
    new ListPartsCommand({ Bucket: bucket, Key: only.Key, UploadId: only.UploadId }),
  );
  return Parts.reduce((sum, { Size = 0 }) => sum + Size, 0);
}
