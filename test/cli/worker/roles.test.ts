import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';

import { blockedKey, narInfoKey } from '../../../core/cache/layout.ts';
import { writeObject } from '../../../core/cache/objects.ts';
import { createRecord } from '../../../core/cache/withdraw/records.ts';
import { formatSecretKey } from '../../../core/nix/keys.ts';
import { storeHash } from '../../../core/nix/store-path.ts';
import { makeSmallCache, temporaryFolder } from '../../support/cache/small-cache.ts';
import { runCommand } from '../../support/lab/command.ts';

test('a worker with the role of a publisher deletes nothing public; one with the role sweep does', async (t) => {
  const cache = await makeSmallCache(t);
  const hash = storeHash(cache.storePath);
  const keyFile = join(await temporaryFolder(t), 'key');
  await writeFile(keyFile, formatSecretKey(cache.secretKey));
  const record = { at: new Date().toISOString(), why: 'a test' };
  await createRecord(cache.bucket, blockedKey(hash), record);
  const isVisible = async (): Promise<boolean> =>
    (await cache.bucket.head(narInfoKey(hash))) !== null;

  const worker = ['worker', cache.url, '--once'];
  const published = await runCommand([
    ...worker,
    ...['--role', 'publisher', '--secret-key-file', keyFile],
  ]);
  assert.equal(published.status, 0, published.stderr);
  assert.equal(await isVisible(), true);

  // Without a key of the cache.
  const swept = await runCommand([...worker, '--role', 'sweep', '--json']);
  assert.equal(swept.status, 0, swept.stderr);
  const { event, hashes } = JSON.parse(swept.stderr) as { event: string; hashes: string[] };
  assert.deepEqual([event, hashes], ['withdrawn', [hash]]);
  assert.equal(await isVisible(), false);

  await writeObject(cache.bucket, narInfoKey('0'.repeat(32)), 'not blocked');
  const again = await runCommand([...worker, '--role', 'sweep']);
  assert.deepEqual([again.status, again.stderr], [0, '']);
  assert.notEqual(await cache.bucket.head(narInfoKey('0'.repeat(32))), null);

  const wrong = await runCommand([...worker, '--role', 'other']);
  assert.equal(wrong.status, 1, wrong.stderr);
});
