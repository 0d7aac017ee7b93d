import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  openAzureBucket,
  openGoogleBucket,
  openS3Bucket,
} from '../../../functions/shared/driver-stubs.ts';
import { openBucket } from '../../../core/storage/open.ts';

describe('storage of another cloud', () => {
  it('is refused, without what the URL may hold of a secret', () => {
    const refused: (() => unknown)[] = [
      () => openS3Bucket({ bucket: 'acme' }),
      () => openAzureBucket('azure://acme/cache?sv=token'),
      () => openGoogleBucket('gs://acme#token'),
    ];
    for (const open of refused) {
      assert.throws(open, ({ code, message, hint }: Record<string, string>) => {
        assert.equal(code, 'invalid-url');
        assert.match(message!, /acme/);
        assert.doesNotMatch(message!, /token/);
        assert.match(hint!, /niche infra/);
        return true;
      });
    }
  });

  it('is opened where every driver is there', () => {
    for (const url of ['s3://acme', 'azure://acme/cache', 'gs://acme']) {
      assert.doesNotThrow(() => openBucket(url));
    }
  });
});
