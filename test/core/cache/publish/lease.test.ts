import assert from 'node:assert/strict';
import { it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { needsLease, takeLease } from '../../../../core/cache/publish/lease.ts';
import { listKeys } from '../../../support/assert/bytes.ts';
import { memoryBucket } from '../../../support/buckets/memory-bucket.ts';

const lifetimeMs = 400;

it('is needed for storage without conditional writes', () => {
  const strong = memoryBucket();
  const weak = memoryBucket({
    capabilities: { conditionalPut: false, conditionalComplete: false, conditionalReplace: false },
  });
  assert.equal(needsLease({ public: strong, private: strong }), false);
  assert.equal(needsLease({ public: weak, private: strong }), true);
  assert.equal(needsLease({ public: strong, private: weak }), true);
});

it('is held by one publisher until it is released', async () => {
  const bucket = memoryBucket();
  const first = await takeLease(bucket, { holder: 'the first', lifetimeMs });
  await assert.rejects(takeLease(bucket, { holder: 'the second', lifetimeMs }), {
    code: 'publisher-running',
    message: /the first/,
  });
  first.assertHeld();
  // The refused one leaves nothing that would count as alive.
  assert.equal((await listKeys(bucket)).length, 1);
  await first.release();
  const third = await takeLease(bucket, { holder: 'the third', lifetimeMs });
  await third.release();
  assert.deepEqual(await listKeys(bucket), []);
});

it('is never granted to two publishers that start at once', async () => {
  const bucket = memoryBucket();
  const both = await Promise.allSettled(
    ['one', 'two'].map((holder) => takeLease(bucket, { holder, lifetimeMs })),
  );
  const held = both.filter(({ status }) => status === 'fulfilled');
  assert.ok(held.length <= 1);
});

it('runs out when its process dies', async () => {
  const bucket = memoryBucket();
  await bucket.put('publishers/dead', Buffer.from('process 1 on nowhere'));
  const lease = await takeLease(bucket, { holder: 'the next', lifetimeMs });
  assert.equal((await listKeys(bucket)).length, 1);
  await lease.release();
});

it('is lost when it cannot be renewed', async () => {
  let isDown = false;
  const bucket = memoryBucket({
    before: () => {
      if (isDown) throw new Error('down');
    },
  });
  const lease = await takeLease(bucket, { holder: 'x', lifetimeMs });
  lease.assertHeld();
  isDown = true;
  await sleep(lifetimeMs * 1.5);
  assert.throws(
    () => {
      lease.assertHeld();
    },
    { code: 'storage-unavailable' },
  );
  isDown = false;
  await lease.release();
});
