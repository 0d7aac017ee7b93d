import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { parseManifestKey } from '../../../../core/cache/layout.ts';
import { openFileBucket } from '../../../../core/storage/file/driver.ts';
import { listKeys, readObject } from '../../../support/assert/bytes.ts';
import { checkInvariants } from '../../../support/cache/invariants.ts';
import { createTestCache } from '../../../support/cache/kit.ts';

/** Private roots as clients of earlier releases left them, by release. */
const staged = join(import.meta.dirname, '../../../fixtures/staged');

describe('what a client of an earlier release stages', () => {
  it('is published as it was claimed, 0.1.0', async () => {
    const client = openFileBucket(join(staged, '0.1.0'));
    const cache = createTestCache();
    const keys = await listKeys(client, 'staging/');
    for (const key of keys) {
      await cache.private.put(key, (await readObject(client, key)) ?? Buffer.alloc(0));
    }
    const published: string[] = [];
    for (const key of keys) {
      const id = parseManifestKey(key);
      if (!id) continue;
      for (const { path, outcome } of await cache.publish(id)) {
        assert.equal(outcome.status, 'published', `${path ?? key}: ${outcome.message ?? ''}`);
        published.push(path?.split('-').at(-1) ?? '');
      }
    }
    assert.deepEqual(published.sort(), ['flat', 'library', 'more', 'self', 'tool']);
    // The only receipts that this client finds.
    const receipts = await listKeys(cache.private, 'receipts/');
    assert.equal(receipts.length, 5);
    for (const key of receipts) {
      assert.match(key, /^receipts\/[0-9a-f-]{36}\/[0-9a-z]{32}\.published\.json$/);
    }
    assert.equal((await listKeys(cache.public, 'log/')).length, 1);
    assert.deepEqual(await listKeys(cache.private, 'staging/'), []);
    const { publicKeys } = cache.config;
    await checkInvariants({ ...cache, publicKeys });
  });
});
