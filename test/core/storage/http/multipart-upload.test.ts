import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  createMultipartUpload,
  type PartSink,
} from '../../../../core/storage/http/multipart-upload.ts';

/** Collects the parts of one upload. `begin` fails the first time. */
function failingSink(): { sink: PartSink; stored: string[] } {
  const stored: string[] = [];
  let isFirst = true;
  const store = (bytes: Uint8Array): void => void stored.push(Buffer.from(bytes).toString());
  const sink: PartSink = {
    token: () => undefined,
    begin() {
      const failure = isFirst ? Promise.reject(new Error('no session')) : Promise.resolve();
      isFirst = false;
      return failure;
    },
    putWhole(bytes) {
      store(bytes);
      return Promise.resolve('created');
    },
    putPart(_, bytes) {
      store(bytes);
      return Promise.resolve();
    },
    complete(_, last) {
      store(last);
      return Promise.resolve('created');
    },
    discard: () => Promise.resolve(),
  };
  return { sink, stored };
}

describe('a multipart upload', () => {
  it('cannot be committed after a failed write', async () => {
    const { sink, stored } = failingSink();
    const upload = createMultipartUpload(sink, { action: 'writing', partBytes: 4, partsAtOnce: 1 });
    const failed = { message: 'no session' };
    await assert.rejects(upload.write(Buffer.from('0123456789')), failed);
    await assert.rejects(upload.write(Buffer.from('more')), failed);
    await assert.rejects(upload.commit(), failed);
    assert.deepEqual(stored, []);
  });
});
