import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { NicheError } from '../../../../core/errors.ts';
import type { Bucket, Upload } from '../../../../core/storage/bucket.ts';
import { probeConditions } from '../../../../core/storage/s3/probe-conditions.ts';
import { memoryBucket } from '../../../support/buckets/memory-bucket.ts';
import { listKeys } from '../../../support/assert/bytes.ts';

const notImplemented = new NicheError('storage-unavailable', 'failed (NotImplemented, 501)', {
  cause: { $metadata: { httpStatusCode: 501 } },
});
const refuse = (): Promise<never> => Promise.reject(notImplemented);

/** Returns a server that honours only the conditions that are not overridden. */
function server(override: (bucket: Bucket) => Partial<Bucket>): Bucket {
  const bucket = memoryBucket();
  return { ...bucket, ...override(bucket) };
}

function withCommit(
  bucket: Bucket,
  commit: (upload: Upload) => Upload['commit'],
): Bucket['upload'] {
  return async (key, options) => {
    const upload = await bucket.upload(key, options);
    return { ...upload, commit: commit(upload) };
  };
}

const servers: Readonly<Record<string, readonly [Bucket, 'yes' | 'put' | 'no']>> = {
  'honours all conditions': [memoryBucket(), 'yes'],
  'ignores the condition of a creation': [
    server((bucket) => ({ put: (key, body) => bucket.put(key, body) })),
    'no',
  ],
  'does not implement the condition of a creation': [
    server((bucket) => ({
      put: (key, body, options) => (options?.ifAbsent === true ? refuse() : bucket.put(key, body)),
    })),
    'no',
  ],
  'ignores the condition of a replacement': [
    server(() => ({ replace: () => Promise.resolve('replaced') })),
    'no',
  ],
  'does not implement the condition of a replacement': [server(() => ({ replace: refuse })), 'no'],
  'ignores the condition of a multipart completion': [
    server((bucket) => ({ upload: withCommit(bucket, (upload) => () => upload.commit()) })),
    'put',
  ],
  'does not implement the condition of a multipart completion': [
    server((bucket) => ({ upload: withCommit(bucket, () => refuse) })),
    'put',
  ],
};

describe('the probe for conditional writes', () => {
  for (const [title, [bucket, expected]] of Object.entries(servers)) {
    it(`detects a server that ${title}, and leaves no objects`, async () => {
      assert.equal(await probeConditions(bucket), expected);
      assert.deepEqual(await listKeys(bucket), []);
    });
  }

  it('does not treat other failures as a result', async () => {
    const down = new NicheError('storage-unavailable', 'down');
    const bucket = server(() => ({ replace: () => Promise.reject(down) }));
    await assert.rejects(probeConditions(bucket), down);
    assert.deepEqual(await listKeys(bucket), []);
  });
});
