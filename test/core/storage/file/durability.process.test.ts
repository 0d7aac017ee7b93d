import assert from 'node:assert/strict';
import fs, { type NoParamCallback } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, describe, it, mock, type TestContext } from 'node:test';
import type { Bucket } from '../../../../core/storage/bucket.ts';
import { patternBytes } from '../../../support/assert/bytes.ts';

/**
 * The state guaranteed to survive a power loss: each file's bytes when its last sync began, and each
 * folder's names when its last sync began.
 */
const syncedBytes = new Map<number, number>();
const syncedNames = new Set<string>();
const opened = new Map<number, string>();
/** Files that became visible before all their bytes were synced to disk. */
const revealedEarly: string[] = [];
let syncFailure: Error | null = null;
let folderFailure: Error | null = null;
/** Whether to simulate a file server that creates links but loses the responses, causing a retry. */
let losesAnswers = false;

// Patch before the bucket is loaded: it keeps references to these functions.
const real = { ...fs };

mock.method(fs, 'openSync', (...args: Parameters<typeof fs.openSync>) => {
  const fd = real.openSync(...args);
  opened.set(fd, String(args[0]));
  return fd;
});
const fdatasync = (fd: number, done: NoParamCallback): void => {
  if (syncFailure) {
    const failure = syncFailure;
    setImmediate(() => {
      done(failure);
    });
    return;
  }
  const { ino, size } = real.fstatSync(fd);
  real.fdatasync(fd, (error) => {
    if (!error) syncedBytes.set(ino, size);
    done(error);
  });
};
const fsync = (fd: number, done: NoParamCallback): void => {
  if (folderFailure) {
    done(folderFailure);
    return;
  }
  const folder = opened.get(fd) ?? '';
  const names = real.readdirSync(folder);
  real.fsync(fd, (error) => {
    if (!error) for (const name of names) syncedNames.add(join(folder, name));
    done(error);
  });
};
const reveal = (how: 'linkSync' | 'renameSync') => (from: string, to: string) => {
  const { ino, size } = real.statSync(from);
  if (syncedBytes.get(ino) !== size) revealedEarly.push(to);
  real[how](from, to);
  if (how === 'linkSync' && losesAnswers) real[how](from, to);
};
mock.method(fs, 'fdatasync', fdatasync);
mock.method(fs, 'fsync', fsync);
mock.method(fs, 'linkSync', reveal('linkSync'));
mock.method(fs, 'renameSync', reveal('renameSync'));
syncBuiltinESMExports();
after(() => {
  mock.restoreAll();
});
const { openFileBucket } = await import('../../../../core/storage/file/driver.ts');

const small = Buffer.from('some bytes');
const large = patternBytes(3 * 2 ** 20);

async function newBucket(t: TestContext): Promise<{ bucket: Bucket; directory: string }> {
  const directory = await mkdtemp(join(tmpdir(), 'niche-durable-'));
  t.after(() => rm(directory, { recursive: true, force: true }));
  syncedBytes.clear();
  syncedNames.clear();
  revealedEarly.length = 0;
  return { bucket: openFileBucket(directory), directory };
}

/** Asserts that the object and each folder above it survive a power loss. */
function assertOnDisk(directory: string, key: string): void {
  assert.deepEqual(revealedEarly, []);
  for (let path = join(directory, key); path !== directory; path = dirname(path)) {
    assert.ok(syncedNames.has(path), `${path} is lost`);
  }
}

describe('a bucket in a directory: durable when a write returns', () => {
  for (const ifAbsent of [true, false]) {
    for (const [size, body] of Object.entries({ small, large })) {
      it(`a ${size} put, ${ifAbsent ? 'created' : 'replacing'}`, async (t) => {
        const { bucket, directory } = await newBucket(t);
        await bucket.put('audit/2026/object', body, { ifAbsent });
        assertOnDisk(directory, 'audit/2026/object');
      });

      it(`an upload of a ${size} object, ${ifAbsent ? 'created' : 'replacing'}`, async (t) => {
        const { bucket, directory } = await newBucket(t);
        const upload = await bucket.upload('nar/object');
        await upload.write(body);
        await upload.write(small);
        await upload.commit({ ifAbsent });
        assertOnDisk(directory, 'nar/object');
      });
    }
  }

  it('several concurrent small objects, and one that exists', async (t) => {
    const { bucket, directory } = await newBucket(t);
    const keys = ['a/one', 'a/two', 'b/three'];
    await Promise.all(keys.map((key) => bucket.put(key, small, { ifAbsent: true })));
    for (const key of keys) assertOnDisk(directory, key);
    // Its creator may not have synced its folder yet.
    syncedNames.clear();
    assert.equal(await bucket.put('a/one', small, { ifAbsent: true }), 'exists');
    assert.ok(syncedNames.has(join(directory, 'a/one')));
  });

  it('objects created in order, up to one that exists', async (t) => {
    const { bucket, directory } = await newBucket(t);
    const objects = ['one.narinfo', 'two.narinfo'].map((key) => ({ key, body: small }));
    assert.deepEqual(await bucket.createInOrder?.(objects), ['created', 'created']);
    for (const { key } of objects) assertOnDisk(directory, key);
  });

  it('a replacement of an object', async (t) => {
    const { bucket, directory } = await newBucket(t);
    await bucket.put('niche.json', small);
    const { etag = '' } = (await bucket.head('niche.json')) ?? {};
    syncedNames.clear();
    assert.equal(await bucket.replace('niche.json', Buffer.from('others'), etag), 'replaced');
    assertOnDisk(directory, 'niche.json');
  });

  it('skips the sync where no invariant depends on it', async (t) => {
    const { bucket } = await newBucket(t);
    await bucket.put('a', small, { durable: false });
    assert.deepEqual(revealedEarly.length, 1);
  });
});

const broken = Object.assign(new Error('EIO: i/o error'), { code: 'EIO' });
const unavailable = { code: 'storage-unavailable' };

describe('a bucket in a directory whose disk fails', () => {
  it('shows no object whose sync failed', async (t) => {
    const { bucket } = await newBucket(t);
    t.after(() => (syncFailure = null));
    syncFailure = broken;
    await assert.rejects(bucket.put('small', small), unavailable);
    await assert.rejects(bucket.put('large', large), unavailable);
    await assert.rejects(
      async () => bucket.createInOrder?.([{ key: 'x', body: small }]),
      unavailable,
    );
    const upload = await bucket.upload('upload');
    await upload.write(large);
    await assert.rejects(upload.commit({ ifAbsent: true }), unavailable);
    await upload.abort();
    for (const key of ['small', 'large', 'x', 'upload']) {
      assert.equal(await bucket.head(key), null, key);
    }
  });

  for (const when of ['before', 'during'] as const) {
    it(`shows no upload that lost a part ${when} its end`, async (t) => {
      const { bucket } = await newBucket(t);
      t.after(() => (syncFailure = null));
      const upload = await bucket.upload('nar/object');
      syncFailure = broken;
      // Large enough to be synced before the upload ends.
      await upload.write(Buffer.alloc(65 * 2 ** 20));
      // The kernel reports a write error only once.
      syncFailure = null;
      if (when === 'before') await new Promise((resolve) => setImmediate(resolve));
      await assert.rejects(upload.commit({ ifAbsent: true }), unavailable);
      await upload.abort();
      assert.equal(await bucket.head('nar/object'), null);
    });
  }

  it('does not report success when the sync of the folder fails', async (t) => {
    const { bucket } = await newBucket(t);
    await bucket.put('receipt', small);
    t.after(() => (folderFailure = null));
    folderFailure = broken;
    const options = { ifAbsent: true };
    await assert.rejects(bucket.put('small', small, options), unavailable);
    await assert.rejects(bucket.put('large', large, options), unavailable);
    await assert.rejects(
      async () => bucket.createInOrder?.([{ key: 'x', body: small }]),
      unavailable,
    );
    assert.equal(await bucket.put('other', small, { durable: false }), 'created');
  });
});

describe('a bucket in a directory on a file server that loses responses', () => {
  it('detects that it created the object itself', async (t) => {
    const { bucket, directory } = await newBucket(t);
    t.after(() => (losesAnswers = false));
    losesAnswers = true;
    assert.equal(await bucket.put('object', small, { ifAbsent: true }), 'created');
    assert.equal(await bucket.put('object', small, { ifAbsent: true }), 'exists');
    assertOnDisk(directory, 'object');
  });
});
