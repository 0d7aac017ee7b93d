import assert from 'node:assert/strict';
import { isNicheError, NicheError } from '../../../core/errors.ts';
import { narInfoKey } from '../../../core/cache/layout.ts';
import type { BatchId, WaitingMarker } from '../../../core/cache/layout.ts';
import { createUpstreams } from '../../../core/cache/upstreams.ts';
import type { Upstreams } from '../../../core/cache/upstreams.ts';
import { fingerprint } from '../../../core/nix/fingerprint.ts';
import { signFingerprint } from '../../../core/nix/keys.ts';
import { formatNarInfo } from '../../../core/nix/narinfo.ts';
import type { PathInfo } from '../../../core/nix/path-info.ts';
import { storeBaseName, parseStorePath, storeHash } from '../../../core/nix/store-path.ts';
import { checkInvariants } from './invariants.ts';
import { createTestCache, dayMs, leftPrefixes, publicKeyOf, testKey } from './kit.ts';
import type { TestCache, TestCacheOptions } from './kit.ts';
import { inventedPath, testPath } from './paths.ts';
import type { TestPath } from './paths.ts';
import { CrashError } from '../buckets/crash.ts';
import { memoryBucket } from '../buckets/memory-bucket.ts';
import type { BucketHooks } from '../buckets/memory-bucket.ts';
import { watchInvariants } from './watch.ts';
import type { Watch } from './watch.ts';

const upstreamKey = testKey('upstream-1', 9);
const hourMs = 60 * 60 * 1000;

/** Creates an upstream with these paths, signed with its key. */
export async function memoryUpstream(paths: readonly TestPath[]): Promise<Upstreams> {
  const reader = memoryBucket({ url: 'memory:///upstream' });
  for (const { info } of paths) {
    const narInfo = {
      ...info,
      signatures: [signFingerprint(fingerprint(info), upstreamKey)],
      url: 'nar/elsewhere.nar',
      compression: 'none',
      fileHash: null,
      fileSize: null,
      extra: [],
    };
    await reader.put(narInfoKey(storeHash(info.path)), Buffer.from(formatNarInfo(narInfo)));
  }
  return createUpstreams([{ reader, publicKey: publicKeyOf(upstreamKey) }], '/nix/store');
}

const drv = inventedPath('app.drv');
const drvName = storeBaseName(parseStorePath(drv));

async function makePaths() {
  const far = await testPath('far');
  const a = await testPath('a');
  const b = await testPath('b', { references: [a] });
  const c = await testPath('c', { references: [a, b], selfReference: true, deriver: drv });
  const d = await testPath('d', { references: [c] });
  const e = await testPath('e', { references: [far, d] });
  const never = await testPath('never');
  const g = await testPath('g', { references: [a, never] });
  const twin = await testPath('twin', { references: [a], contents: 'one' });
  const otherTwin = await testPath('twin', { references: [a], contents: 'other' });
  const bad = await testPath('bad');
  const lie = { ...bad, info: { ...bad.info, narHash: a.info.narHash } };
  return { far, a, b, c, d, e, g, twin, otherTwin, lie };
}
let made: ReturnType<typeof makePaths> | undefined;

/** Batches of two uploads in a difficult order: dependents first, twins, a false claim, a waiting path. */
export interface Scenario {
  readonly cache: TestCache;
  readonly ids: readonly BatchId[];
  readonly watch: Watch;
  /** Delivers every event again, an hour later, and sweeps once. */
  recover(): Promise<void>;
  /** Asserts the final state. */
  assertFinished(): Promise<void>;
}

export async function createScenario(options: TestCacheOptions = {}): Promise<Scenario> {
  const { far, a, b, c, d, e, g, twin, otherTwin, lie } = await (made ??= makePaths());
  const upstreams = await memoryUpstream([far]);
  const config = { compression: { kind: 'none', level: 3 } };
  const cache = createTestCache({ config, ...options, upstreams });
  const one = cache.newUpload();
  const two = cache.newUpload();
  const logs = { [drvName]: 'the log of c' };
  const ids = [
    await cache.stage([e, d, c], { id: { upload: one, batch: 0 }, logs }),
    await cache.stage([twin, b], { id: { upload: one, batch: 1 } }),
    await cache.stage([g, lie, otherTwin], { id: { upload: two, batch: 0 } }),
    await cache.stage([a, c], { id: { upload: two, batch: 1 } }),
  ];
  const valid = new Map<string, readonly PathInfo[]>([
    [one, [b, c, d, e].map(({ info }) => info)],
    [two, [a, c].map(({ info }) => info)],
  ]);
  const watch = watchInvariants(cache, [far.info.path], valid);

  async function recover(): Promise<void> {
    cache.advance(hourMs);
    await runProcess(cache, ids, watch);
    await cache.sweep(cache.publisher({ hooks: watch }));
    // Paths that the sweep woke.
    await runProcess(cache, [], watch, cache.wakes.splice(0));
  }

  async function assertFinished(): Promise<void> {
    watch.assertKept();
    for (const [upload, infos] of valid) {
      for (const info of infos) {
        const receipt = await cache.receipt(upload, info);
        assert.match(receipt?.status ?? 'none', /^(published|exists)$/, `${upload} ${info.path}`);
      }
    }
    const twins = [await cache.receipt(one, twin.info), await cache.receipt(two, twin.info)];
    const codes = twins.map((receipt) => receipt?.code ?? 'published');
    assert.deepEqual(codes.sort(), ['conflict', 'published']);
    assert.equal((await cache.receipt(two, lie.info))?.code, 'nar-hash-mismatch');
    assert.equal((await cache.receipt(two, g.info))?.status, 'waiting');
    const log = cache.publicStore.objects.get(`log/${drvName}`);
    assert.equal(log && Buffer.from(log.bytes).toString(), 'the log of c');

    // The publisher rejects paths whose references never come. Then no unfinished work is left.
    cache.advance(8 * dayMs);
    await cache.sweep();
    assert.equal((await cache.receipt(two, g.info))?.code, 'missing-references');
    const rejected = [g.info, lie.info];
    await checkInvariants({ ...cache, publicKeys: cache.config.publicKeys, rejected });
    watch.assertKept();
    assert.deepEqual(await leftPrefixes(cache), ['audit', 'receipts']);
  }

  return { cache, ids, watch, recover, assertFinished };
}

/**
 * Runs one publisher process: handles the events in order, and its own wake-ups. After an outage it
 * continues with the next event. After a crash its wake-ups are lost.
 */
export async function runProcess(
  cache: TestCache,
  events: readonly BatchId[],
  hooks: BucketHooks,
  wakes: WaitingMarker[] = [],
): Promise<void> {
  const wake = (waiting: WaitingMarker) => {
    wakes.push(waiting);
    return Promise.resolve();
  };
  const publisher = cache.publisher({ hooks, wake });

  async function attempt(work: () => Promise<unknown>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (!isNicheError(error, 'storage-unavailable')) throw error;
    }
  }

  async function resumeWoken(): Promise<void> {
    for (let next = wakes.shift(); next; next = wakes.shift()) {
      const waiting = next;
      await attempt(() => publisher.resumePath(waiting));
    }
  }

  try {
    await resumeWoken();
    for (const id of events) {
      await attempt(() => publisher.publishBatch(id));
      await resumeWoken();
    }
  } catch (error) {
    if (!(error instanceof CrashError)) throw error;
  }
}

/** Combines hooks. If the first throws, the second is not called. */
export function chainHooks(...all: readonly BucketHooks[]): BucketHooks {
  return {
    async before(operation, key) {
      for (const { before } of all) await before?.(operation, key);
    },
    async after(operation, key) {
      for (const { after } of all) await after?.(operation, key);
    },
  };
}

/** Fails once, at the `nth` write: the write takes effect, but its response is lost. */
export function loseAnswer(nth: number): BucketHooks {
  let writes = 0;
  return {
    after(operation, key) {
      if (!['put', 'commit', 'delete'].includes(operation)) return;
      writes += 1;
      if (writes === nth) {
        throw new NicheError('storage-unavailable', `injected: no answer to ${operation} ${key}`);
      }
    },
  };
}
