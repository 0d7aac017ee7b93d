import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { it } from 'node:test';
import { listKeys, readObject } from '../../../support/assert/bytes.ts';
import {
  killFileBucketChild,
  runFileBucketChild,
  temporaryFileBucket,
} from '../../../support/buckets/file-bucket.ts';

it('lets two processes create each key once, while folders are created and removed', async (context) => {
  const { bucket, directory, close } = await temporaryFileBucket();
  context.after(close);
  const ids = ['one', 'two'];
  const printed = await Promise.all(ids.map((id) => runFileBucketChild('race', directory, id)));
  const created = printed.map((json) => JSON.parse(json) as readonly number[]);
  assert.equal(created.flat().length, 100);
  assert.equal(new Set(created.flat()).size, 100);
  for (const [turn, indexes] of created.entries()) {
    for (const index of indexes) {
      assert.equal(String(await readObject(bucket, `race/${index}`)), ids[turn]);
    }
  }
  assert.equal((await listKeys(bucket)).length, 100);
});

it('hides an upload whose process was killed, and sweeps it', async (context) => {
  const { bucket, directory, close } = await temporaryFileBucket();
  context.after(close);
  await killFileBucketChild('unfinished', directory);
  assert.equal(await bucket.head('nar/unfinished'), null);
  assert.equal(await bucket.get('nar/unfinished'), null);
  assert.deepEqual(await listKeys(bucket), []);
  assert.equal((await readdir(join(directory, '.niche-tmp'))).length, 1);
  assert.equal(await bucket.sweepUploads?.('', new Date(Date.now() + 60_000)), 1);
  assert.deepEqual(await readdir(join(directory, '.niche-tmp')), []);
});
