import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Bucket } from '../../core/storage/bucket.ts';
import { patternBytes, readObject } from '../support/assert/bytes.ts';

/** A cloud driver with a real server. */
export interface CloudSubject {
  /** Opens an empty bucket twice, as two processes would. */
  readonly open: () => Promise<readonly [Bucket, Bucket]>;
  /** Size of one part of an upload, in bytes. */
  readonly partBytes: number;
}

/** Tests multipart uploads, in addition to the conformance suite of every driver. */
export function multipartUploads(name: string, { open, partBytes }: CloudSubject): void {
  const ifAbsent = { ifAbsent: true };

  describe(`${name}: multipart uploads`, () => {
    it('never mixes the parts of two writers', async () => {
      const [ours, theirs] = await open();
      const bytes = patternBytes(partBytes + 10, 1);
      const other = patternBytes(partBytes + 10, 2);
      const first = await ours.upload('object');
      const second = await theirs.upload('object');
      await first.write(bytes);
      await second.write(other);
      assert.equal(await ours.head('object'), null);
      assert.equal(await first.commit(ifAbsent), 'created');
      assert.equal(await second.commit(ifAbsent), 'exists');
      assert.ok(bytes.equals((await readObject(ours, 'object'))!));
    });

    it('fails when another upload committed first', async () => {
      const [ours, theirs] = await open();
      const first = await ours.upload('object');
      await first.write(patternBytes(partBytes + 10, 1));
      // A part that arrives after the other upload ends would not be dropped.
      const token = await tokenOf(first);
      while ((await ours.resumeUpload!('object', token)) === null);
      const second = await theirs.upload('object');
      await second.write(patternBytes(partBytes + 10, 2));
      assert.equal(await second.commit(), 'created');
      await assert.rejects(first.commit(), { code: 'storage-unavailable' });
      await first.abort();
    });

    it('replaces an object that existed before the upload began', async () => {
      const [bucket] = await open();
      await bucket.put('object', Buffer.from('old'));
      const bytes = patternBytes(partBytes + 10);
      for (const [options, outcome] of [
        [ifAbsent, 'exists'],
        [{}, 'created'],
      ] as const) {
        const upload = await bucket.upload('object');
        await upload.write(bytes);
        assert.equal(await upload.commit(options), outcome);
      }
      assert.ok(bytes.equals((await readObject(bucket, 'object'))!));
    });

    it('finds no upload with another token, or for another key', async () => {
      const [bucket] = await open();
      const begun = await bucket.upload('object');
      await begun.write(patternBytes(partBytes + 10));
      const token = await tokenOf(begun);
      assert.equal(await bucket.resumeUpload!('other', token), null);
      assert.equal(await bucket.resumeUpload!('object', 'nonsense'), null);
      await begun.abort();
    });
  });
}

async function tokenOf(upload: { readonly token?: string | undefined }): Promise<string> {
  while (upload.token === undefined) await new Promise((resolve) => setTimeout(resolve, 5));
  return upload.token;
}
