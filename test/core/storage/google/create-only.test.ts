import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { openGoogleBucket } from '../../../../core/storage/google/driver.ts';
import { partBytes } from '../../../../core/storage/google/resumable-upload.ts';
import type { Bucket } from '../../../../core/storage/bucket.ts';
import { serveAnswers } from '../../../support/cache/http.ts';

const lacks = (right: string): string => {
  const message = `ci@acme.iam.gserviceaccount.com does not have ${right} access to the Google Cloud Storage object.`;
  return JSON.stringify({
    error: { code: 403, message, errors: [{ message, reason: 'forbidden' }] },
  });
};

/** Opens a bucket whose server refuses each new object with 403 for want of `right`. */
async function refusing(t: TestContext, right: string): Promise<Bucket> {
  const { url } = await serveAnswers(t, (path, response, request) => {
    request.resume().on('end', () => {
      const isPart = (request.headers['content-range'] ?? '').endsWith('/*');
      if (request.method === 'GET') response.writeHead(404).end(lacks('storage.objects.get'));
      else if (isPart) response.writeHead(308, { range: `bytes=0-${partBytes - 1}` }).end();
      else if (path.includes('uploadType=resumable') && request.method === 'POST') {
        response.writeHead(200, { location: `${url}/session?name=object` }).end();
      } else response.writeHead(403).end(lacks(right));
    });
  });
  return openGoogleBucket(`gs://bucket?endpoint=${url}`);
}

async function upload(bucket: Bucket, ifAbsent: boolean): Promise<string> {
  const upload = await bucket.upload('object');
  await upload.write(new Uint8Array(partBytes + 1));
  return upload.commit({ ifAbsent });
}

describe('creating an object in Google’s storage without the right to delete', () => {
  const body = Buffer.from('1');

  it('finds that the object exists, by the right that only a replacement needs', async (t) => {
    const bucket = await refusing(t, 'storage.objects.delete');
    assert.equal(await bucket.put('object', body, { ifAbsent: true }), 'exists');
    assert.equal(await upload(bucket, true), 'exists');
  });

  it('reports a replacement as denied', async (t) => {
    const bucket = await refusing(t, 'storage.objects.delete');
    await assert.rejects(bucket.put('object', body), { code: 'storage-denied' });
    await assert.rejects(bucket.replace('object', body, '7'), { code: 'storage-denied' });
  });

  it('reports as denied what needs any other right', async (t) => {
    const bucket = await refusing(t, 'storage.objects.create');
    await assert.rejects(bucket.put('object', body, { ifAbsent: true }), {
      code: 'storage-denied',
    });
    await assert.rejects(upload(bucket, true), { code: 'storage-denied' });
  });
});
