import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { openLocalDatabase } from '../../../../core/cache/local/database.ts';
import type { LocalDatabase } from '../../../../core/cache/local/database.ts';
import { manifestKey, stagedNarsKey } from '../../../../core/cache/layout.ts';
import type { BatchId } from '../../../../core/cache/layout.ts';
import { createStager } from '../../../../core/cache/stage/stager.ts';
import type { LocalPath } from '../../../../core/cache/stage/local-path.ts';
import { createUploadJournal } from '../../../../core/cache/local/upload-journal.ts';
import type { UploadJournal } from '../../../../core/cache/local/upload-journal.ts';
import { newUploadId } from '../../../../core/cache/upload-id.ts';
import { NicheError } from '../../../../core/errors.ts';
import { defaultStoreDir } from '../../../../core/nix/store-path.ts';
import { testPath } from '../../../support/cache/paths.ts';
import { memoryBucket, memoryStore } from '../../../support/buckets/memory-bucket.ts';
import type { BucketHooks, MemoryStore } from '../../../support/buckets/memory-bucket.ts';

const chunkBytes = 1024 * 1024;
const large = await testPath('large', { contents: Buffer.alloc(12 * chunkBytes, 'x') });

async function* inChunks(bytes: Buffer): AsyncIterable<Uint8Array> {
  for (let start = 0; start < bytes.length; start += chunkBytes) {
    await Promise.resolve();
    yield bytes.subarray(start, start + chunkBytes);
  }
}

const local = (nar = large.nar): LocalPath => ({ info: large.info, openNar: () => inChunks(nar) });

/** The journal of one process; `dead` processes have ended. */
const journalOf = (database: LocalDatabase, self: string, dead: readonly string[] = []) =>
  createUploadJournal(database, { self, hasEnded: (owner) => dead.includes(owner) });

interface Run {
  readonly upload: string;
  readonly staged: BatchId[];
  readonly failed: unknown[];
  /** Bytes of NARs that were sent. */
  sent: number;
  readonly failure: unknown;
}

async function stage(
  store: MemoryStore,
  journal: UploadJournal,
  hooks: BucketHooks = {},
  path = local(),
  signal?: AbortSignal,
): Promise<Run> {
  const upload = newUploadId();
  const staged: BatchId[] = [];
  const failed: unknown[] = [];
  let sent = 0;
  const bucket = memoryBucket({
    store,
    resumable: true,
    before: hooks.before,
    after(operation) {
      if (operation === 'write') sent += chunkBytes;
    },
  });
  const stager = createStager({
    bucket,
    upload,
    storeDir: defaultStoreDir,
    journal,
    signal,
    onStaged: (id) => staged.push(id),
    onFailed: (_, error) => failed.push(error),
  });
  stager.addPath(path);
  const failure = await stager.finish().then(
    () => null,
    (error: unknown) => error,
  );
  return { upload, staged, failed, sent, failure };
}

/** Ends a run after `chunks` of the NAR, as an outage would. */
function failingAfter(chunks: number, error: () => Error): BucketHooks {
  let written = 0;
  return {
    before(operation) {
      if (operation !== 'write') return;
      written += 1;
      if (written > chunks) throw error();
    },
  };
}

const down = (): Error => new NicheError('storage-unavailable', 'down');

describe('an interrupted large upload', () => {
  test('is resumed under its own batch', async () => {
    const store = memoryStore();
    const database = await openLocalDatabase(null);
    const first = await stage(store, journalOf(database, 'first'), failingAfter(9, down));
    assert.equal(first.sent, 9 * chunkBytes);
    assert.deepEqual(first.staged, []);
    const second = await stage(store, journalOf(database, 'second', ['first']));
    assert.equal(second.failure, null);
    assert.equal(second.sent, 4 * chunkBytes, 'what is missing');
    assert.deepEqual(second.staged, [{ upload: first.upload, batch: 0 }]);
    const id = second.staged[0]!;
    const stored = store.objects.get(stagedNarsKey(id, 'none'))?.bytes;
    assert.ok(stored && large.nar.equals(stored));
    assert.ok(store.objects.has(manifestKey(id)));
    assert.equal(store.uploads.size, 0);
    assert.deepEqual(journalOf(database, 'third').findStaged(large.info), {
      batch: id,
      isConfirmed: true,
    });
    assert.equal(journalOf(database, 'third', ['second']).claimUnfinished(large.info), null);
  });

  test('belongs to its process while the process runs', async () => {
    const store = memoryStore();
    const database = await openLocalDatabase(null);
    await stage(store, journalOf(database, 'first'), failingAfter(9, down));
    const second = await stage(store, journalOf(database, 'second'));
    assert.deepEqual(second.staged, [{ upload: second.upload, batch: 0 }]);
    assert.equal(second.sent, 13 * chunkBytes);
  });

  test('restarts when the storage has lost it', async () => {
    const store = memoryStore();
    const database = await openLocalDatabase(null);
    await stage(store, journalOf(database, 'first'), failingAfter(9, down));
    store.uploads.clear();
    const second = await stage(store, journalOf(database, 'second', ['first']));
    assert.equal(second.failure, null);
    assert.deepEqual(second.staged, [{ upload: second.upload, batch: 0 }]);
  });

  test('leaves nothing behind when it cannot be completed', async () => {
    const store = memoryStore();
    const database = await openLocalDatabase(null);
    const wrong = Buffer.from(large.nar).fill('y', 1024, 2048);
    const run = await stage(store, journalOf(database, 'first'), {}, local(wrong));
    assert.equal(run.failed.length, 1);
    assert.equal(store.uploads.size, 0);
    assert.equal(journalOf(database, 'second', ['first']).claimUnfinished(large.info), null);
    const denied = (): Error => new NicheError('storage-denied', 'denied');
    await stage(store, journalOf(database, 'first'), failingAfter(3, denied));
    assert.equal(store.uploads.size, 0);
  });

  test('is resumed by one of two processes', async () => {
    const database = await openLocalDatabase(null);
    const id = { upload: newUploadId(), batch: 3 };
    journalOf(database, 'first').recordUnfinished(large.info, { id, token: 'token' });
    const [second, third] = [
      journalOf(database, 'second', ['first']),
      journalOf(database, 'third', ['first']),
    ];
    assert.deepEqual(second.claimUnfinished(large.info), { id, token: 'token' });
    assert.equal(third.claimUnfinished(large.info), null);
  });
});

test('staged batches are kept until their results are final, or they expire', async () => {
  const database = await openLocalDatabase(null);
  let time = 0;
  const dayMs = 24 * 60 * 60 * 1000;
  const open = () =>
    createUploadJournal(database, { self: 'x', hasEnded: () => false, now: () => time });
  const id = { upload: newUploadId(), batch: 1 };
  const other = (await testPath('other')).info;
  open().recordStaged(id, [large.info, other], false);
  assert.deepEqual(open().findStaged(other), { batch: id, isConfirmed: false });
  open().recordStaged(id, [large.info, other], true);
  assert.deepEqual(open().findStaged(large.info), { batch: id, isConfirmed: true });
  assert.equal(open().findStaged({ ...large.info, references: [other.path] }), null);
  open().forgetStaged([large.info]);
  assert.equal(open().findStaged(large.info), null);
  time = 5 * dayMs;
  assert.deepEqual(open().findStaged(other)?.batch, id);
  time = 7 * dayMs;
  assert.equal(open().findStaged(other), null);
});
