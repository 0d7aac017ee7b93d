import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { it } from 'node:test';
import { mapConcurrent } from '../../../../core/util/concurrency.ts';
import { listKeys, readObject } from '../../../support/assert/bytes.ts';
import {
  killFileBucketChild,
  runFileBucketChild,
  startFileBucketChild,
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

it('brings no object back that another process deletes during a replacement', async (context) => {
  const { bucket, directory, close } = await temporaryFileBucket();
  context.after(close);
  const other = startFileBucketChild('deleting', directory);
  context.after(() => other.stop());
  const keys = Array.from({ length: 16 }, (_, index) => `object-${index}`);
  await other.ask('started');
  for (let round = 0; round < 10; round += 1) {
    const etags = await mapConcurrent(keys, keys.length, async (key) => {
      await bucket.put(key, Buffer.from('first'), { durable: false });
      return (await bucket.head(key))!.etag;
    });
    await Promise.all([
      other.ask(keys.join(' ')),
      ...keys.map((key, index) => bucket.replace(key, Buffer.from('second'), etags[index]!)),
    ]);
    assert.deepEqual(await listKeys(bucket), [], `round ${round}`);
  }
  assert.deepEqual(await readdir(join(directory, '.niche-tmp')), []);
});

it('takes the lock of a process that was killed', async (context) => {
  const { bucket, directory, close } = await temporaryFileBucket();
  context.after(close);
  await bucket.put('object', Buffer.from('first'));
  const { etag } = (await bucket.head('object'))!;
  await killFileBucketChild('locking', directory);
  assert.deepEqual(await listKeys(bucket), ['object']);
  const outcomes = await Promise.all([
    bucket.replace('object', Buffer.from('second'), etag),
    bucket.replace('object', Buffer.from('third'), etag),
    bucket.delete(['other']),
  ]);
  assert.deepEqual(outcomes.slice(0, 2).sort(), ['changed', 'replaced']);
  await bucket.delete(['object']);
  assert.deepEqual(await readdir(join(directory, '.niche-tmp')), []);
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
