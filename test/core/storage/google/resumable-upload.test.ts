import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { openGoogleBucket } from '../../../../core/storage/google/driver.ts';
import { serveAnswers } from '../../../support/cache/http.ts';

describe('resuming an upload to Google', () => {
  it('sends no data to another server, or to the session of another object', async (t) => {
    const own = await serveAnswers(t, (_, response) => response.writeHead(308).end());
    const other = await serveAnswers(t, (_, response) => response.writeHead(308).end());
    const bucket = openGoogleBucket(`gs://bucket?endpoint=${own.url}`);
    const session = (origin: string, name: string): string => `0:${origin}/upload?name=${name}`;
    assert.equal(await bucket.resumeUpload!('object', session(other.url, 'object')), null);
    assert.equal(await bucket.resumeUpload!('object', session(own.url, 'else')), null);
    assert.deepEqual([own.requests, other.requests], [[], []]);
    assert.equal(await bucket.resumeUpload!('object', session(own.url, 'object')), null);
    assert.equal(own.requests.length, 1);
  });
});
