import assert from 'node:assert/strict';
import { it } from 'node:test';
import fc from 'fast-check';
import type { Bucket } from '../../../core/storage/bucket.ts';
import { listKeys, patternBytes, readObject } from '../assert/bytes.ts';
import { crashAtWrite, CrashError } from './crash.ts';
import { faultyBucket } from './faulty-bucket.ts';
import { memoryBucket, memoryStore } from './memory-bucket.ts';

const body = patternBytes(1000);

/** Writes, and cleans up when it fails, as real code does. */
async function threeWrites(bucket: Bucket): Promise<void> {
  try {
    await bucket.put('one', body);
    const upload = await bucket.upload('two');
    await upload.write(body);
    await upload.commit();
    await bucket.delete(['one']);
  } catch (error) {
    await bucket.put('tidied', body).catch(() => undefined);
    throw error;
  }
}

it('crashes a process at each of its writes, before or after the effect', async () => {
  const counting = crashAtWrite(Infinity, 'before');
  await threeWrites(memoryBucket(counting));
  assert.equal(counting.writes(), 3);
  const left: string[][] = [];
  for (const nth of [1, 2, 3]) {
    for (const moment of ['before', 'after'] as const) {
      const store = memoryStore();
      const crash = crashAtWrite(nth, moment);
      const dying = memoryBucket({ store, ...crash });
      await assert.rejects(threeWrites(dying), CrashError);
      assert.ok(crash.hasCrashed());
      await assert.rejects(dying.head('one'), CrashError);
      left.push(await listKeys(memoryBucket({ store })));
    }
  }
  assert.deepEqual(left, [[], ['one'], ['one'], ['one', 'two'], ['one', 'two'], ['two']]);
});

it('lets a scheduler order the operations of two processes', async () => {
  const winners = new Set<string>();
  const property = fc.asyncProperty(fc.scheduler(), async (scheduler) => {
    const store = memoryStore();
    const before = (operation: string, key: string) =>
      scheduler.schedule(Promise.resolve(), `${operation} ${key}`);
    const outcomes = Promise.all(
      ['one', 'two'].map((process) =>
        memoryBucket({ store, before }).put('key', Buffer.from(process), { ifAbsent: true }),
      ),
    );
    await scheduler.waitFor(outcomes);
    assert.deepEqual([...(await outcomes)].sort(), ['created', 'exists']);
    winners.add(String(await readObject(memoryBucket({ store }), 'key')));
  });
  await fc.assert(property, { seed: 1, numRuns: 20 });
  assert.deepEqual([...winners].sort(), ['one', 'two']);
});

it('injects the given faults, before any effect', async () => {
  const inner = memoryBucket();
  await inner.put('object', body);
  for (const fault of ['denied', 'unavailable', 'full', 'integrity'] as const) {
    const code = `storage-${fault}`;
    const faulty = faultyBucket(inner, (_, key) => (key === 'x' ? undefined : fault));
    await assert.rejects(faulty.head('object'), { code });
    await assert.rejects(faulty.get('object'), { code });
    await assert.rejects(faulty.put('other', body), { code });
    await assert.rejects(faulty.upload('other'), { code });
    await assert.rejects(listKeys(faulty), { code });
    await assert.rejects(faulty.delete(['x', 'object']), { code });
    assert.equal(await faulty.head('x'), null);
  }
  assert.deepEqual(await listKeys(inner), ['object']);
});

it('breaks off a body, and hangs until it is cancelled', async () => {
  const inner = memoryBucket({ chunkBytes: 100 });
  await inner.put('object', body);
  const broken = faultyBucket(inner, () => 'broken');
  let length = 0;
  await assert.rejects(
    async () => {
      for await (const chunk of (await broken.get('object'))!.body) length += chunk.length;
    },
    { code: 'storage-unavailable' },
  );
  assert.equal(length, 500);
  const hanging = faultyBucket(inner, () => 'hang');
  const controller = new AbortController();
  const head = hanging.head('object', { signal: controller.signal });
  controller.abort();
  await assert.rejects(head, { code: 'aborted' });
});
