import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';

import { listBlocked } from '../../../core/cache/blocklist.ts';
import { blockedKey, blockedPrefix, listingKey, narInfoKey } from '../../../core/cache/layout.ts';
import type { BatchId, CacheBuckets } from '../../../core/cache/layout.ts';
import { resignNarInfos } from '../../../core/cache/keys/resign.ts';
import type { Publisher } from '../../../core/cache/publish/publisher.ts';
import { blockPath, unblockPath } from '../../../core/cache/withdraw/block.ts';
import { withdrawRefused } from '../../../core/cache/withdraw/withdraw.ts';
import { storeHash } from '../../../core/nix/store-path.ts';
import { memoryBucket } from '../buckets/memory-bucket.ts';
import type { BucketHooks } from '../buckets/memory-bucket.ts';
import { createTestCache, publicKeyOf, testKey, testSigner } from './kit.ts';
import type { TestCache } from './kit.ts';
import { testPath } from './paths.ts';
import { chainHooks } from './scenario.ts';

const minuteMs = 60_000;

/** Returns numbers from 0 up to, not including, `limit`, which depend on the seed alone (mulberry32). */
function seededRandom(seed: number): (limit: number) => number {
  let state = seed >>> 0;
  return (limit) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % limit;
  };
}

/**
 * Runs processes whose storage operations take effect one at a time. The process with the highest
 * priority goes on, and priorities change now and then. So a process also stops for long at a random
 * operation, which an even choice would hardly ever do.
 */
interface Interleaver {
  /** Returns hooks for the buckets of one process. */
  addProcess(): BucketHooks;
  run(start: () => readonly Promise<unknown>[]): Promise<void>;
}

function createInterleaver(random: (limit: number) => number): Interleaver {
  const held: { readonly process: number; readonly resume: () => void }[] = [];
  const priorities: number[] = [];
  let isRunning = false;

  function resumeNext(): void {
    if (random(6) === 0) priorities[random(priorities.length)] = random(1000);
    const first = held.toSorted((one, other) => priorityOf(other) - priorityOf(one))[0];
    if (first) held.splice(held.indexOf(first), 1)[0]?.resume();
  }

  function priorityOf({ process }: { readonly process: number }): number {
    return priorities[process] ?? 0;
  }

  return {
    addProcess() {
      const process = priorities.push(random(1000)) - 1;
      return {
        before: () =>
          isRunning
            ? new Promise<void>((resume) => {
                held.push({ process, resume });
              })
            : undefined,
      };
    },
    async run(start) {
      isRunning = true;
      const ended = Promise.all(start()).finally(() => {
        isRunning = false;
      });
      // A failure is thrown below.
      ended.catch(() => undefined);
      while (isRunning) {
        await turn();
        resumeNext();
      }
      await ended;
    },
  };
}

/**
 * Returns hooks for the buckets of one process. A look is a LIST of the blocked paths. The hooks throw
 * - when a publisher creates the narinfo of `user`, and that of `base` was gone before its last look;
 * - when the narinfo of `base` is deleted although its publisher looked after it was unblocked.
 */
function watchPaths(cache: TestCache): () => BucketHooks {
  const [baseKey, userKey] = [base, user].map(({ info }) => narInfoKey(storeHash(info.path)));
  const baseBlockedKey = blockedKey(storeHash(base.info.path));
  let step = 0;
  let lastVisible = -1;
  let unblocked = Infinity;
  let lookOfCreator = -1;
  return () => {
    let lastLook = 0;
    return {
      before(operation, key) {
        step += 1;
        if (cache.publicStore.objects.has(baseKey!)) lastVisible = step;
        if (operation !== 'delete' || key !== baseKey || lastVisible < step) return;
        assert.ok(lookOfCreator < unblocked, 'a path that was published again was deleted');
      },
      after(operation, key) {
        if (operation === 'list' && key === blockedPrefix) lastLook = step;
        if (operation === 'put' && key === baseKey) lookOfCreator = lastLook;
        if (operation === 'put' && key === baseBlockedKey) unblocked = Infinity;
        if (operation === 'delete' && key === baseBlockedKey) unblocked = step;
        if (operation !== 'put' || key !== userKey) return;
        assert.ok(lastVisible >= lastLook, 'I2: a dependent of a withdrawn path became visible');
      },
    };
  };
}

const resigner = testSigner('next-2', 2);
const publicKeys = [testKey('test-1'), testKey('next-2', 2)].map(publicKeyOf);
const base = await testPath('base');
const user = await testPath('user', { references: [base] });

/**
 * Publishes a path and one that refers to it while an administrator withdraws the former, in an order
 * that depends on the seed alone. Then runs the jobs in the queue and a sweep.
 *
 * @throws AssertionError when something is visible that is blocked, or a dependent was published after
 *   its reference was withdrawn
 */
export async function raceWithdrawal(seed: number): Promise<void> {
  const random = seededRandom(seed);
  const createsInOrder = random(2) === 0;
  const cache = createTestCache({
    config: { compression: { kind: 'none', level: 3 }, publicKeys },
    createsInOrder,
  });
  const interleaver = createInterleaver(random);
  const watch = watchPaths(cache);
  const hash = storeHash(base.info.path);
  const first = await cache.stage([base]);
  const second = await cache.stage(random(2) === 0 ? [user] : [base, user]);
  /** Returns the buckets as one process sees them. */
  function bucketsOf(): CacheBuckets {
    const hooks = chainHooks(interleaver.addProcess(), watch());
    const options = { now: cache.now, createsInOrder, ...hooks };
    return {
      public: memoryBucket({ store: cache.publicStore, ...options }),
      staging: memoryBucket({ store: cache.stagingStore, ...options }),
      private: memoryBucket({ store: cache.privateStore, ...options }),
    };
  }

  const publishers = [cache.publisher(bucketsOf()), cache.publisher(bucketsOf())];
  // From then on, this publisher remembers that the path is present.
  if (random(3) === 0) await publishers[0]?.publishBatch(first);

  async function publish(publisher: Publisher | undefined, ids: readonly BatchId[]): Promise<void> {
    for (const id of ids) {
      await publisher?.publishBatch(id);
      for (const waiting of cache.wakes.splice(0)) await publisher?.resumePath(waiting);
    }
  }

  async function administrate(): Promise<void> {
    const buckets = bucketsOf();
    const record = { at: cache.now().toISOString(), why: '' };
    await blockPath(buckets, hash, record);
    if (random(3) === 0) return;
    await unblockPath(buckets.private, hash);
    if (random(2) === 0) await blockPath(buckets, hash, record);
  }

  async function resign(): Promise<void> {
    await resignNarInfos({ ...cache, ...bucketsOf(), signers: [resigner], version: 'test' });
  }

  async function runQueue(): Promise<void> {
    const buckets = bucketsOf();
    for (let jobs = 0; jobs < 3; jobs += 1) {
      const job = cache.withdrawals.shift();
      if (job !== undefined) await withdrawRefused({ ...cache, ...buckets }, job);
      else await buckets.private.head('blocked/none');
    }
  }

  await interleaver.run(() => [
    publish(publishers[0], random(2) === 0 ? [first, second] : [second, first]),
    publish(publishers[1], [second, first]),
    administrate(),
    ...(random(2) === 0 ? [administrate()] : []),
    runQueue(),
    ...(random(2) === 0 ? [resign()] : []),
  ]);

  await drain(cache);
  await assertWithdrawn(cache);
  cache.advance(20 * minuteMs);
  await cache.sweep();
  await drain(cache);
  await assertWithdrawn(cache);
}

/** Runs the jobs of the queue, until none is left. */
async function drain(cache: TestCache): Promise<void> {
  const publisher = cache.publisher();
  for (;;) {
    const hash = cache.withdrawals.shift();
    const waiting = cache.wakes.shift();
    if (hash !== undefined) await withdrawRefused(cache, hash);
    if (waiting) await publisher.resumePath(waiting);
    if (hash === undefined && !waiting) return;
  }
}

async function assertWithdrawn(cache: TestCache): Promise<void> {
  const blocked = await listBlocked(cache.private);
  for (const { path } of [base.info, user.info]) {
    const hash = storeHash(path);
    if (!blocked.has(hash)) continue;
    for (const key of [narInfoKey(hash), listingKey(hash)]) {
      assert.ok(!cache.publicStore.objects.has(key), `${key} is blocked, but visible`);
    }
  }
}
