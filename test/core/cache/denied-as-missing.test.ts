import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { deniedAsMissing } from '../../../core/cache/denied-as-missing.ts';
import { NicheError } from '../../../core/errors.ts';
import { memoryBucket } from '../../support/buckets/memory-bucket.ts';

const hash = '0'.repeat(32);

describe('denied objects that may be absent', () => {
  function reader(readable: boolean) {
    const asked: string[] = [];
    const bucket = memoryBucket({
      before(_, key) {
        asked.push(key);
        if (readable && key === 'nix-cache-info') return;
        throw new NicheError('storage-denied', 'denied');
      },
    });
    return { asked, bucket, tolerant: deniedAsMissing(bucket) };
  }

  test('are absent where nix-cache-info can be read, which is asked once', async () => {
    const { asked, tolerant, bucket } = reader(true);
    await bucket.put('nix-cache-info', Buffer.from('StoreDir: /nix/store\n'));
    asked.splice(0);
    assert.equal(await tolerant.get(`${hash}.narinfo`), null);
    assert.equal(await tolerant.head(`${hash}.ls`), null);
    assert.equal(await tolerant.get('log/x.drv'), null);
    assert.equal(asked.filter((key) => key === 'nix-cache-info').length, 1);
    for (const key of [`nar/${hash}.nar.zst`, 'niche.json']) {
      await assert.rejects(tolerant.get(key), { code: 'storage-denied' });
    }
  });

  test('are denied where it cannot, or is missing', async () => {
    await assert.rejects(reader(false).tolerant.get(`${hash}.narinfo`), { code: 'storage-denied' });
    await assert.rejects(reader(true).tolerant.get(`${hash}.narinfo`), { code: 'storage-denied' });
  });
});
