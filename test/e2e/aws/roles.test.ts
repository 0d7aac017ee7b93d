import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import type { PutObjectCommandInput } from '@aws-sdk/client-s3';
import {
  blockedKey,
  narInfoKey,
  pendingKey,
  stagedNarsKey,
  waitingKey,
} from '../../../core/cache/layout.ts';
import { newUploadId } from '../../../core/cache/upload-id.ts';
import { storeHash } from '../../../core/nix/store-path.ts';
import type { Bucket } from '../../../core/storage/bucket.ts';
import { openS3Bucket } from '../../../core/storage/s3/driver.ts';
import { parseS3Url } from '../../../core/storage/s3/url.ts';
import { receiptOf, stage } from './staged.ts';
import { requireAws } from '../../support/servers/aws-cache.ts';
import type { AwsAccount, AwsCache } from '../../support/servers/aws-cache.ts';
import { listKeys, readObject } from '../../support/assert/bytes.ts';
import { testPath } from '../../support/cache/paths.ts';
import { until } from '../../support/assert/until.ts';

const denied = { code: 'storage-denied' };

/** The roots and a plain client, with the uploader's role. */
async function openAsUploader(aws: AwsAccount, cache: AwsCache) {
  const env = await cache.asUploader();
  const credentials = {
    accessKeyId: env['AWS_ACCESS_KEY_ID'] ?? '',
    secretAccessKey: env['AWS_SECRET_ACCESS_KEY'] ?? '',
    sessionToken: env['AWS_SESSION_TOKEN'] ?? '',
  };
  const { endpoint, region } = aws;
  const open = (root: string): Bucket =>
    openS3Bucket(
      { ...parseS3Url(cache.stack.outputs[`${root}Storage`] ?? ''), endpoint },
      { credentials: { kind: 's3', ...credentials } },
    );
  return {
    public: open('Public'),
    staging: open('Staging'),
    private: open('Private'),
    s3: new S3Client({ endpoint, region, credentials, forcePathStyle: true, maxAttempts: 1 }),
  };
}

describe('the deployed roles', () => {
  test('the uploader only creates staged objects and reads receipts', async (t) => {
    const aws = await requireAws(t);
    if (!aws) return;
    const cache = await aws.cache('main', { storeDir: '/nix/store' });
    const uploader = await openAsUploader(aws, cache);

    const path = await testPath('honest');
    const staged = await stage({ ...cache, staging: uploader.staging }, path);
    await receiptOf({ ...cache, staging: uploader.staging }, staged, path, 'published');

    // It creates objects under staging/, and neither replaces, reads, lists nor deletes them.
    const id = { upload: newUploadId(), batch: 0 };
    const nars = stagedNarsKey(id, 'none');
    const body = Buffer.from('x');
    assert.equal(await uploader.staging.put(nars, body, { ifAbsent: true }), 'created');
    await assert.rejects(uploader.staging.put(nars, body), denied);
    await assert.rejects(readObject(uploader.staging, nars), denied);
    await assert.rejects(uploader.staging.delete([nars]), denied);
    await assert.rejects(listKeys(uploader.staging, 'staging/'), denied);
    await assert.rejects(listKeys(uploader.staging, 'receipts/'), denied);
    const receipt = `receipts/${id.upload}/0.rejected.json`;
    await assert.rejects(uploader.staging.put(receipt, body, { ifAbsent: true }), denied);

    // Nor does it create objects that the publisher could not read.
    const { bucket: Bucket } = parseS3Url(cache.staging.url);
    const putAs = async (more: Partial<PutObjectCommandInput>): Promise<unknown> =>
      uploader.s3.send(
        new PutObjectCommand({
          Bucket,
          Key: stagedNarsKey({ upload: newUploadId(), batch: 0 }, 'none'),
          Body: body,
          IfNoneMatch: '*',
          ...more,
        }),
      );
    await putAs({ StorageClass: 'STANDARD' });
    for (const more of [
      { StorageClass: 'DEEP_ARCHIVE' },
      { ServerSideEncryption: 'aws:kms' },
      {
        SSECustomerAlgorithm: 'AES256',
        SSECustomerKey: Buffer.alloc(32).toString('base64'),
        SSECustomerKeyMD5: 'cLyPS3KoaSFGi/joRB3OUQ==',
      },
    ] satisfies Partial<PutObjectCommandInput>[]) {
      await assert.rejects(putAs(more), { name: 'AccessDenied' }, JSON.stringify(more));
    }

    // It has no rights on the other two buckets, except to read what is published.
    const names = ['pending/x', 'waiting/x', 'blocked/x', 'audit/x', 'attempts/x', 'staging/x'];
    for (const key of [...names, 'niche.signing.json']) {
      await assert.rejects(uploader.private.put(key, body, { ifAbsent: true }), denied, key);
      await assert.rejects(uploader.private.get(key), denied, key);
      await assert.rejects(uploader.private.delete([key]), denied, key);
    }
    await assert.rejects(listKeys(uploader.private, ''), denied);
    const narInfo = narInfoKey(storeHash(path.info.path));
    assert.ok(await readObject(uploader.public, narInfo));
    for (const key of [narInfo, 'nar/x.nar.zst', 'niche.json', 'niche.client.json']) {
      await assert.rejects(uploader.public.put(key, body), denied, key);
      await assert.rejects(uploader.public.delete([key]), denied, key);
    }
  });

  test('the sweep withdraws a path that the publisher finds blocked and visible', async (t) => {
    const aws = await requireAws(t);
    if (!aws) return;
    const cache = await aws.cache('main', { storeDir: '/nix/store' });
    const path = await testPath('withdrawn');
    await receiptOf(cache, await stage(cache, path), path, 'published');
    // As if the administrator had blocked it just before the narinfo was created.
    const hash = storeHash(path.info.path);
    const record = JSON.stringify({ at: new Date().toISOString(), why: 'a test' });
    await cache.private.put(blockedKey(hash), Buffer.from(record), { ifAbsent: true });
    await receiptOf(cache, await stage(cache, path), path, 'rejected');
    await until(
      'it is withdrawn',
      async () => (await cache.public.head(narInfoKey(hash))) === null,
    );
    // Its role can delete its own marker, and not the administrator's record.
    await until('its marker is deleted', async () => {
      const [first, ...others] = await listKeys(cache.private, 'blocked/');
      return first === blockedKey(hash) && others.length === 0;
    });
  });

  test('a pending record that an uploader made up is never signed', async (t) => {
    const aws = await requireAws(t);
    if (!aws) return;
    const cache = await aws.cache('main', { storeDir: '/nix/store' });
    const uploader = await openAsUploader(aws, cache);

    // No NAR was staged, and the contents do not match the path.
    const { info } = await testPath('evil');
    const [hash, upload] = [storeHash(info.path), newUploadId()];
    const record = Buffer.from(
      JSON.stringify({
        version: 1,
        info,
        nar: { url: 'http://127.0.0.1:1/evil.nar', compression: 'none', fileSize: 1 },
        unclaimed: [],
        upload,
        origin: { via: 'event' },
        since: new Date().toISOString(),
      }),
    );
    const pending = pendingKey(hash, upload);
    await assert.rejects(uploader.private.put(pending, record, { ifAbsent: true }), denied);
    const marker = waitingKey({ reference: hash, storeHash: hash, upload });
    await assert.rejects(uploader.private.put(marker, Buffer.alloc(0), { ifAbsent: true }), denied);
    // In the staging root, where it may write, such a record means nothing.
    await assert.rejects(uploader.staging.put(pending, record, { ifAbsent: true }), denied);
    const misplaced = `staging/${upload}/${pending}`;
    assert.equal(await uploader.staging.put(misplaced, record, { ifAbsent: true }), 'created');
    await cache.invoke('sweep');
    assert.equal(await cache.public.head(narInfoKey(hash)), null);
    assert.deepEqual(await listKeys(cache.private, 'audit/'), []);
  });
});
