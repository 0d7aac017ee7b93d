import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmod,
  mkdir,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  stat,
  symlink,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { openFileBucket } from '../../../../core/storage/file/driver.ts';
import { listKeys, patternBytes, readObject } from '../../../support/assert/bytes.ts';
import { runFileBucketChild, temporaryFileBucket } from '../../../support/buckets/file-bucket.ts';
import { bucketConformance } from '../../../storage/conformance.ts';

bucketConformance('a bucket in a directory', temporaryFileBucket);

const body = Buffer.from('some bytes');

async function opened(context: TestContext) {
  const { bucket, directory, close } = await temporaryFileBucket();
  context.after(close);
  return { bucket, directory };
}

async function unfinishedIn(directory: string): Promise<string[]> {
  return readdir(join(directory, '.niche-tmp'));
}

describe('a bucket in a directory: its files', () => {
  it('stores each object in the file of its key, with permissions from the umask', async (context) => {
    const { bucket, directory } = await opened(context);
    const umask = process.umask(0o022);
    context.after(() => process.umask(umask));
    await bucket.put('nar/object', body);
    const upload = await bucket.upload('nar/other');
    await upload.write(body);
    await upload.commit({ ifAbsent: true });
    for (const name of ['nar/object', 'nar/other']) {
      assert.deepEqual(await readFile(join(directory, name)), body);
      assert.equal((await stat(join(directory, name))).mode & 0o777, 0o644);
    }
    assert.equal((await stat(join(directory, 'nar'))).mode & 0o777, 0o755);
  });

  it('leaves no temporary files, after success or failure', async (context) => {
    const { bucket, directory } = await opened(context);
    await bucket.put('object', body);
    await bucket.put('object', body, { ifAbsent: true });
    await bucket.put('object', body);
    for (const ifAbsent of [true, false]) {
      const upload = await bucket.upload('object');
      await upload.write(body);
      await upload.commit({ ifAbsent });
    }
    await (await bucket.upload('object')).abort();
    await assert.rejects(bucket.put('object/below', body), { code: 'invalid-key' });
    assert.deepEqual(await unfinishedIn(directory), []);
  });

  it('stores concurrent puts separately', async (context) => {
    const { bucket, directory } = await opened(context);
    await bucket.put('file', body);
    const outcomes = await Promise.allSettled([
      bucket.put('one', body, { ifAbsent: true }),
      bucket.put('one', Buffer.from('other'), { ifAbsent: true }),
      bucket.put('file/below', body),
      bucket.put('nar/two', body, { durable: false }),
      bucket.put('nar/three', body),
      bucket.put('nar/empty', new Uint8Array()),
    ]);
    const shown = outcomes.map((outcome) =>
      outcome.status === 'fulfilled'
        ? outcome.value
        : (outcome.reason as NodeJS.ErrnoException).code,
    );
    assert.deepEqual(shown, [
      ...['created', 'exists', 'invalid-key'],
      ...['created', 'created', 'created'],
    ]);
    assert.deepEqual(await readObject(bucket, 'one'), body);
    assert.deepEqual(await readObject(bucket, 'nar/empty'), Buffer.alloc(0));
    assert.deepEqual(await unfinishedIn(directory), []);
  });

  it('creates objects in order, up to the first that exists', async (context) => {
    const { bucket, directory } = await opened(context);
    await bucket.put('c', Buffer.from('other'));
    const objects = ['a', 'nar/b', 'c', 'd'].map((key) => ({ key, body }));
    const outcomes = await bucket.createInOrder?.(objects);
    assert.deepEqual(outcomes, ['created', 'created', 'exists']);
    assert.deepEqual(await listKeys(bucket), ['a', 'c', 'nar/b']);
    assert.deepEqual(await readObject(bucket, 'c'), Buffer.from('other'));
    const inTheWay = ['x', 'a/below', 'y'].map((key) => ({ key, body }));
    await assert.rejects(async () => bucket.createInOrder?.(inTheWay), { code: 'invalid-key' });
    assert.deepEqual(await listKeys(bucket), ['a', 'c', 'nar/b', 'x']);
    assert.deepEqual(await unfinishedIn(directory), []);
  });

  it('sweeps unfinished uploads by age', async (context) => {
    const { bucket, directory } = await opened(context);
    await bucket.upload('old');
    const [name] = await unfinishedIn(directory);
    const yesterday = new Date(Date.now() - 86_400_000);
    await utimes(join(directory, '.niche-tmp', name!), yesterday, yesterday);
    const recent = await bucket.upload('recent');
    assert.equal(await bucket.sweepUploads?.('', new Date(Date.now() - 3_600_000)), 1);
    assert.equal(await recent.commit(), 'created');
    assert.deepEqual(await listKeys(bucket), ['recent']);
  });

  it('removes only folders that a deletion left empty', async (context) => {
    const { bucket, directory } = await opened(context);
    await bucket.put('staging/one/0.json', body);
    await bucket.put('staging/two/0.json', body);
    await bucket.delete(['staging/one/0.json']);
    assert.deepEqual(await readdir(join(directory, 'staging')), ['two']);
    await bucket.delete(['staging/two/0.json']);
    assert.deepEqual(await readdir(directory), ['.niche-tmp']);
  });

  it(
    'closes the file when a reader stops early',
    { skip: process.platform !== 'linux' },
    async (context) => {
      const { bucket, directory } = await opened(context);
      await bucket.put('object', patternBytes(3 * 2 ** 20));
      async function assertClosed(): Promise<void> {
        const open = await Promise.all(
          (await readdir('/proc/self/fd')).map((fd) =>
            readlink(`/proc/self/fd/${fd}`).catch(String),
          ),
        );
        assert.ok(!open.includes(join(directory, 'object')));
      }
      await (await bucket.get('object'))!.body[Symbol.asyncIterator]().return?.();
      await assertClosed();
      for await (const chunk of (await bucket.get('object'))!.body) if (chunk.length > 0) break;
      await assertClosed();
      await readObject(bucket, 'object');
      await assertClosed();
    },
  );

  it('reuses chunk buffers only on request', async (context) => {
    const { bucket } = await opened(context);
    const bytes = patternBytes(5 * 2 ** 20 + 1000);
    await bucket.put('object', bytes);
    for (const lend of [true, false]) {
      const range = { start: 7, end: bytes.length - 7 };
      const found = await bucket.get('object', { lend, range });
      const buffers = new Set<ArrayBufferLike>();
      const copies: Uint8Array[] = [];
      for await (const chunk of found!.body) {
        buffers.add(chunk.buffer);
        copies.push(Uint8Array.from(chunk));
      }
      assert.deepEqual(Buffer.concat(copies), Buffer.from(bytes.subarray(range.start, range.end)));
      assert.equal(buffers.size, lend ? 2 : 6);
    }
  });

  it('detects a file that is truncated during a read', async (context) => {
    const { bucket, directory } = await opened(context);
    await bucket.put('object', patternBytes(3 * 2 ** 20));
    const found = await bucket.get('object');
    await truncate(join(directory, 'object'), 1000);
    await assert.rejects(
      async () => {
        for await (const chunk of found!.body) assert.ok(chunk.length > 0);
      },
      { code: 'storage-integrity' },
    );
  });
});

describe('a bucket in a directory: foreign files', () => {
  it('refuses keys in its internal folder, and lists no foreign files', async (context) => {
    const { bucket, directory } = await opened(context);
    await bucket.put('object', body);
    await mkdir(join(directory, 'lost+found'));
    for (const name of ['a b', 'ä', '#x#', 'lost+found/x']) {
      await writeFile(join(directory, name), body);
    }
    assert.deepEqual(await listKeys(bucket), ['object']);
    for (const key of ['.niche-tmp', '.niche-tmp/x', 'lost+found/x']) {
      await assert.rejects(bucket.get(key), { code: 'invalid-key' });
      await assert.rejects(bucket.put(key, body), { code: 'invalid-key' });
    }
    await assert.rejects(listKeys(bucket, '.niche-tmp/'), { code: 'invalid-key' });
    assert.deepEqual(await listKeys(bucket, '.niche'), []);
  });

  it('does not follow symbolic links', async (context) => {
    const { bucket, directory } = await opened(context);
    const outside = await opened(context);
    await outside.bucket.put('secret', body);
    await symlink(outside.directory, join(directory, 'folder'));
    await symlink(join(outside.directory, 'secret'), join(directory, 'file'));
    const refused = { code: 'storage-denied' };
    for (const key of ['folder/secret', 'file']) {
      await assert.rejects(bucket.head(key), refused);
      await assert.rejects(bucket.get(key), refused);
      await assert.rejects(bucket.put(key, body, { ifAbsent: true }), refused);
    }
    await assert.rejects(bucket.put('folder/new', body), refused);
    await assert.rejects(bucket.delete(['folder/secret']), refused);
    assert.deepEqual(await listKeys(bucket), []);
    assert.deepEqual(await listKeys(bucket, 'folder/'), []);
    assert.deepEqual(await listKeys(outside.bucket), ['secret']);
  });

  it('lists what others store, whatever else is there', async (context) => {
    const { bucket, directory } = await opened(context);
    const outside = await opened(context);
    await outside.bucket.put('secret', body);
    await bucket.put('staging/one/0.json', body);
    await bucket.put('staging/two/0.json', body);
    const odd = join(directory, 'staging/odd');
    await mkdir(odd);
    execFileSync('mkfifo', [join(odd, 'pipe')]);
    execFileSync('mkfifo', [join(directory, 'staging/pipe.json')]);
    const server = createServer().listen(join(odd, 'socket'));
    context.after(() => server.close());
    await once(server, 'listening');
    await symlink(outside.directory, join(directory, 'staging/folder'));
    await symlink(join(outside.directory, 'secret'), join(odd, 'file'));
    await symlink('nothing', join(odd, 'broken'));
    await symlink('loop', join(odd, 'loop'));
    const keys = ['staging/one/0.json', 'staging/two/0.json'];
    for (const prefix of ['', 'staging/']) assert.deepEqual(await listKeys(bucket, prefix), keys);
    for (const prefix of ['staging/odd/', 'staging/folder/', 'staging/pipe.json/']) {
      assert.deepEqual(await listKeys(bucket, prefix), []);
    }
    await bucket.delete(keys);
    assert.deepEqual(await listKeys(bucket), []);
    assert.deepEqual(await listKeys(outside.bucket), ['secret']);
  });

  it('uses no folder for temporary files that leads elsewhere', async (context) => {
    const { bucket, directory } = await opened(context);
    const outside = await opened(context);
    await bucket.put('object', body);
    const { etag } = (await bucket.head('object'))!;
    const upload = await bucket.upload('upload');
    await rm(join(directory, '.niche-tmp'), { recursive: true });
    await symlink(outside.directory, join(directory, '.niche-tmp'));
    await writeFile(join(outside.directory, 'old'), body);
    await utimes(join(outside.directory, 'old'), 0, 0);
    const refused = { code: 'storage-denied' };
    await assert.rejects(bucket.put('new', body), refused);
    await assert.rejects(bucket.put('new', body, { ifAbsent: true }), refused);
    await assert.rejects(bucket.put('new', patternBytes(2 ** 20)), refused);
    await assert.rejects(async () => bucket.createInOrder?.([{ key: 'new', body }]), refused);
    await assert.rejects(bucket.upload('new'), refused);
    await assert.rejects(upload.commit(), { code: 'storage-denied' });
    await assert.rejects(bucket.replace('object', body, etag), refused);
    await assert.rejects(bucket.delete(['object']), refused);
    await assert.rejects(bucket.sweepUploads!('', new Date()), refused);
    assert.deepEqual(await listKeys(bucket), ['object']);
    assert.deepEqual(await readdir(outside.directory), ['old']);
  });

  it('refuses a key below a file, or at a folder', async (context) => {
    const { bucket } = await opened(context);
    await bucket.put('file', body);
    await bucket.put('folder/file', body);
    for (const key of ['file/below', 'folder']) {
      for (const ifAbsent of [true, false]) {
        await assert.rejects(bucket.put(key, body, { ifAbsent }), { code: 'invalid-key' });
      }
      assert.equal(await bucket.get(key), null);
    }
    const tooLong = 'x'.repeat(300);
    assert.equal(await bucket.head(tooLong), null);
    await assert.rejects(bucket.put(tooLong, body), { code: 'invalid-key' });
    assert.deepEqual(await listKeys(bucket), ['file', 'folder/file']);
  });

  it('refuses special files without blocking', async (context) => {
    const { bucket, directory } = await opened(context);
    execFileSync('mkfifo', [join(directory, 'pipe')]);
    await assert.rejects(bucket.get('pipe'), { code: 'storage-denied' });
    await assert.rejects(bucket.head('pipe'), { code: 'storage-denied' });
  });

  it('skips files that are deleted during a listing', async (context) => {
    const { bucket } = await opened(context);
    const keys = Array.from({ length: 200 }, (_, index) => `k${index % 10}/${index}`).sort();
    for (const key of keys) await bucket.put(key, body);
    const seen: string[] = [];
    for await (const { key } of bucket.list('')) {
      if (seen.length === 0) await bucket.delete(keys.filter((other) => other !== 'k9/199'));
      seen.push(key);
    }
    assert.equal(seen[0], keys[0]);
    assert.equal(seen.at(-1), 'k9/199');
  });
});

describe('a bucket in a deleted directory', () => {
  it('is unavailable, not empty, and is not recreated', async (context) => {
    const { bucket, directory } = await opened(context);
    await bucket.put('folder/object', body);
    const upload = await bucket.upload('folder/other');
    await upload.write(patternBytes(2 ** 20));
    const listing = bucket.list('')[Symbol.asyncIterator]();
    await listing.next();
    const moved = `${directory}-moved`;
    await rename(directory, moved);
    context.after(() => rm(moved, { recursive: true }));
    const unavailable = { code: 'storage-unavailable' };
    await assert.rejects(listing.next(), unavailable);
    await assert.rejects(upload.commit(), unavailable);
    await upload.abort();
    for (const fresh of [bucket, openFileBucket(directory)]) {
      await assert.rejects(fresh.head('folder/object'), unavailable);
      await assert.rejects(fresh.get('folder/object'), unavailable);
      await assert.rejects(fresh.put('object', body), unavailable);
      await assert.rejects(fresh.put('folder/deep/object', body, { ifAbsent: true }), unavailable);
      await assert.rejects(fresh.upload('object'), unavailable);
      await assert.rejects(listKeys(fresh), unavailable);
      await assert.rejects(listKeys(fresh, 'folder/'), unavailable);
      await assert.rejects(fresh.delete(['folder/object']), unavailable);
      await assert.rejects(fresh.sweepUploads!('', new Date()), unavailable);
    }
    await assert.rejects(stat(directory), { code: 'ENOENT' });
  });

  it('is unavailable when the path is a file', async (context) => {
    const { bucket, directory } = await opened(context);
    await bucket.put('object', body);
    const file = openFileBucket(join(directory, 'object'));
    await assert.rejects(file.get('x'), { code: 'storage-unavailable' });
    await assert.rejects(listKeys(file), { code: 'storage-unavailable' });
  });

  it('refuses a relative directory', () => {
    assert.throws(() => openFileBucket('some/where'), { code: 'invalid-url' });
  });
});

describe('a bucket in a directory: permissions', () => {
  it('reports missing permissions as denied, not as missing', async (context) => {
    const { directory } = await opened(context);
    await mkdir(join(directory, 'folder'));
    for (const name of ['open', 'closed', 'folder/object']) {
      await writeFile(join(directory, name), body);
    }
    await chmod(join(directory, 'closed'), 0o000);
    await chmod(join(directory, 'folder'), 0o000);
    await chmod(directory, 0o555);
    const denied = 'storage-denied';
    try {
      assert.deepEqual(JSON.parse(await runFileBucketChild('denied', directory)), {
        put: denied,
        putDeep: denied,
        upload: denied,
        delete: denied,
        read: 'done',
        readClosed: denied,
        headInClosedFolder: denied,
        missingInClosedFolder: denied,
        listClosedFolder: denied,
        listAll: denied,
      });
    } finally {
      await chmod(directory, 0o755);
      await chmod(join(directory, 'folder'), 0o755);
    }
  });
});
