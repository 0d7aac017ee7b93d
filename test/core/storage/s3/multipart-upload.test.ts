import assert from 'node:assert/strict';
import type { ServerResponse } from 'node:http';
import { describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import type { Bucket } from '../../../../core/storage/bucket.ts';
import { openS3Bucket } from '../../../../core/storage/s3/driver.ts';
import { partBytes } from '../../../../core/storage/s3/multipart-upload.ts';
import { parseS3Url } from '../../../../core/storage/s3/url.ts';
import { serveAnswers } from '../../../support/cache/http.ts';

interface Completions {
  /** Responds to the completion number `count`, from 1 on. */
  readonly complete: (response: ServerResponse, count: number) => void;
  /** Returns the status of the HEAD number `count`, from 1 on. */
  readonly headStatus: (count: number) => number;
}

/** A bucket whose server accepts every part, and waits 200 ms at most for its client. */
async function bucketOf(
  t: TestContext,
  { complete, headStatus }: Completions,
): Promise<{ readonly bucket: Bucket; readonly requests: readonly string[] }> {
  const counts = { completions: 0, heads: 0 };
  const { url, requests } = await serveAnswers(t, (path, response, request) => {
    request.resume();
    request.on('end', () => {
      if (request.method === 'HEAD') {
        counts.heads += 1;
        response.writeHead(headStatus(counts.heads), { 'content-length': 1 }).end();
      } else if (request.method === 'PUT') {
        response.writeHead(200, { etag: '"part"' }).end();
      } else if (path.includes('uploads')) {
        response.end(
          '<InitiateMultipartUploadResult><UploadId>id</UploadId></InitiateMultipartUploadResult>',
        );
      } else {
        counts.completions += 1;
        complete(response, counts.completions);
      }
    });
  });
  const bucket = openS3Bucket(parseS3Url(`s3://acme?region=eu-west-1&endpoint=${url}`), {
    credentials: { kind: 's3', accessKeyId: 'id', secretAccessKey: 'secret' },
    idleTimeoutMs: 200,
    retry: { firstBackoffMs: 1 },
  });
  return { bucket, requests };
}

async function uploadTo(bucket: Bucket): Promise<string> {
  const upload = await bucket.upload('key');
  await upload.write(Buffer.alloc(partBytes + 1));
  return upload.commit({ ifAbsent: true });
}

const succeed = (response: ServerResponse): unknown =>
  response.end(
    '<CompleteMultipartUploadResult><ETag>"whole"</ETag></CompleteMultipartUploadResult>',
  );

describe('the completion of an upload', () => {
  it('may take longer than other requests', async (t) => {
    const { bucket, requests } = await bucketOf(t, {
      complete: (response) => void sleep(800).then(() => succeed(response)),
      headStatus: () => 404,
    });
    assert.equal(await uploadTo(bucket), 'created');
    const completions = requests.filter(
      (path) => path.includes('uploadId=id') && !path.includes('partNumber'),
    );
    assert.equal(completions.length, 1);
  });

  it('that is repeated waits until the first one has stored the object', async (t) => {
    let heads = 0;
    const { bucket } = await bucketOf(t, {
      complete: (response, count) => (count === 1 ? response.destroy() : succeed(response)),
      headStatus(count) {
        heads = count;
        return count < 3 ? 404 : 200;
      },
    });
    assert.equal(await uploadTo(bucket), 'created');
    assert.equal(heads, 3);
  });

  it('that is repeated is believed where the credentials may not look', async (t) => {
    const { bucket } = await bucketOf(t, {
      complete: (response, count) => (count === 1 ? response.destroy() : succeed(response)),
      headStatus: () => 403,
    });
    assert.equal(await uploadTo(bucket), 'created');
  });
});
