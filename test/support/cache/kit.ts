import { zstdCompressSync } from 'node:zlib';
import { readAuditRecords } from '../../../core/cache/audit.ts';
import type { AuditRecord } from '../../../core/cache/audit.ts';
import { parseConfig } from '../../../core/cache/config.ts';
import type { CacheConfig } from '../../../core/cache/config.ts';
import {
  contentTypeOf,
  manifestKey,
  stagedLogKey,
  stagedNarsKey,
} from '../../../core/cache/layout.ts';
import type { BatchId, CacheBuckets, WaitingMarker } from '../../../core/cache/layout.ts';
import { formatManifest } from '../../../core/cache/manifest.ts';
import type { StagingEncoding } from '../../../core/cache/manifest.ts';
import { createPublisher } from '../../../core/cache/publish/publisher.ts';
import type { Publisher, PublisherOptions } from '../../../core/cache/publish/publisher.ts';
import type { PublishResult } from '../../../core/cache/publish/report.ts';
import {
  listStrongestReceipts,
  readListedReceipt,
} from '../../../core/cache/receipts/listed-receipts.ts';
import { receiptSubject } from '../../../core/cache/receipts/receipts.ts';
import type { Receipt } from '../../../core/cache/receipts/receipts.ts';
import { sweep } from '../../../core/cache/publish/sweep.ts';
import type { SweepReport } from '../../../core/cache/publish/sweep.ts';
import { guardRoots } from '../../../core/cache/roots.ts';
import { newUploadId } from '../../../core/cache/upload-id.ts';
import { createUpstreams } from '../../../core/cache/upstreams.ts';
import type { Upstreams } from '../../../core/cache/upstreams.ts';
import { formatPublicKey, formatSecretKey, generateSecretKey } from '../../../core/nix/keys.ts';
import type { SecretKey } from '../../../core/nix/keys.ts';
import type { PathInfo } from '../../../core/nix/path-info.ts';
import { secretKeySigner } from '../../../core/signing/secret-key.ts';
import type { Signer } from '../../../core/signing/signer.ts';
import type { Bucket } from '../../../core/storage/bucket.ts';
import { listKeys } from '../assert/bytes.ts';
import { memoryBucket, memoryStore } from '../buckets/memory-bucket.ts';
import type { BucketHooks, MemoryStore } from '../buckets/memory-bucket.ts';
import type { TestPath } from './paths.ts';

const minuteMs = 60_000;
export const dayMs = 24 * 60 * minuteMs;

/** Returns a key that depends only on the name and the number. */
export function testKey(name: string, seed = 1): SecretKey {
  return generateSecretKey(name, new Uint8Array(32).fill(seed));
}

// Generating a key takes longer than publishing a small path.
const defaultSigner = testSigner('test-1');

export function testSigner(name: string, seed = 1, maxBytes?: number): Signer {
  const signer = secretKeySigner(formatSecretKey(testKey(name, seed)));
  return maxBytes === undefined ? signer : { ...signer, maxBytes };
}

export interface TestCacheOptions {
  /** Overrides of the defaults of `niche.json`. */
  readonly config?: Readonly<Record<string, unknown>>;
  readonly signers?: readonly Signer[];
  readonly upstreams?: Upstreams;
  /** Whether its buckets have `createInOrder`. @default false */
  readonly createsInOrder?: boolean;
}

/** Options of a publisher. */
export type TestPublisherOptions = Partial<PublisherOptions> & { readonly hooks?: BucketHooks };

/** A cache in memory, with a clock that the test sets. */
export interface TestCache extends CacheBuckets {
  readonly publicStore: MemoryStore;
  readonly stagingStore: MemoryStore;
  readonly privateStore: MemoryStore;
  readonly config: CacheConfig;
  readonly signers: readonly Signer[];
  readonly upstreams: Upstreams;
  readonly now: () => Date;
  advance(ms: number): void;
  /** Paths that a publisher woke and that were not resumed yet. */
  readonly wakes: WaitingMarker[];
  /** Store hashes of paths that a publisher wants withdrawn. */
  readonly withdrawals: string[];
  /** Returns a publisher like that of a separate process. `hooks` see all its bucket operations. */
  publisher(options?: TestPublisherOptions): Publisher;
  newUpload(): string;
  /** Stages paths as a batch, by default the first of a new upload. */
  stage(
    paths: readonly TestPath[],
    options?: {
      readonly id?: BatchId;
      readonly encoding?: StagingEncoding;
      readonly logs?: Readonly<Record<string, string | Uint8Array>>;
    },
  ): Promise<BatchId>;
  /** Stages the given manifest and NARs, even invalid ones. */
  stageRaw(
    manifest: string | Uint8Array,
    nars: Uint8Array | null,
    options?: { readonly id?: BatchId; readonly encoding?: StagingEncoding },
  ): Promise<BatchId>;
  /** Publishes the batch and then the paths that this wakes. */
  publish(id: BatchId, publisher?: Publisher): Promise<PublishResult[]>;
  /** @param random decides which upload and which path come first. @default the first ones */
  sweep(publisher?: Publisher, random?: () => number): Promise<SweepReport>;
  /** Returns the current receipt of a path, or of a whole batch by its number. */
  receipt(upload: string, subject: Pick<PathInfo, 'path'> | number): Promise<Receipt | null>;
}

export function createTestCache(options: TestCacheOptions = {}): TestCache {
  const signers = options.signers ?? [defaultSigner];
  const config = parseConfig(
    JSON.stringify({
      version: 1,
      name: 'test',
      storeDir: '/nix/store',
      publicKeys: signers.map(({ publicKey }) => publicKey),
      substituter: 'https://cache.test',
      storage: 'memory:///public',
      staging: 'memory:///staging',
      private: 'memory:///private',
      ...options.config,
    }),
    'the test configuration',
  );
  const upstreams = options.upstreams ?? createUpstreams([], config.storeDir);
  const publicStore = memoryStore();
  const stagingStore = memoryStore();
  const privateStore = memoryStore();
  let time = Date.UTC(2026, 0, 1);
  let uploads = 0;
  const now = (): Date => new Date(time);
  const view = (store: MemoryStore, name: string, hooks: BucketHooks = {}): Bucket =>
    memoryBucket({
      store,
      url: `memory:///${name}`,
      now,
      createsInOrder: options.createsInOrder,
      ...hooks,
    });
  const views = (hooks?: BucketHooks): CacheBuckets =>
    guardRoots({
      public: view(publicStore, 'public', hooks),
      staging: view(stagingStore, 'staging', hooks),
      private: view(privateStore, 'private', hooks),
    });
  const buckets = views();
  const wakes: WaitingMarker[] = [];
  const withdrawals: string[] = [];

  const publisher: TestCache['publisher'] = ({ hooks, ...others } = {}) =>
    createPublisher({
      ...views(hooks),
      config,
      signers,
      upstreams,
      wake: (waiting) => {
        wakes.push(waiting);
        return Promise.resolve();
      },
      withdraw: (storeHash) => {
        withdrawals.push(storeHash);
        return Promise.resolve();
      },
      version: 'test',
      now,
      ...others,
    });

  function newUpload(): string {
    uploads += 1;
    return newUploadId(now(), Buffer.alloc(10, uploads));
  }

  const stageRaw: TestCache['stageRaw'] = async (manifest, nars, raw = {}) => {
    const { id = { upload: newUpload(), batch: 0 }, encoding = 'none' } = raw;
    if (nars) await buckets.staging.put(stagedNarsKey(id, encoding), nars);
    await buckets.staging.put(manifestKey(id), Buffer.from(manifest));
    return id;
  };

  return {
    publicStore,
    stagingStore,
    privateStore,
    ...buckets,
    config,
    signers,
    upstreams,
    now,
    advance: (ms) => (time += ms),
    wakes,
    withdrawals,
    publisher,
    newUpload,
    stageRaw,
    async stage(paths, { id = { upload: newUpload(), batch: 0 }, encoding = 'none', logs } = {}) {
      for (const [drvName, log] of Object.entries(logs ?? {})) {
        await buckets.staging.put(stagedLogKey(id.upload, drvName), Buffer.from(log), {
          contentType: contentTypeOf('x.log'),
        });
      }
      const nars = Buffer.concat(paths.map(({ nar }) => nar));
      const manifest = formatManifest({ encoding, paths: paths.map(({ info }) => info) });
      return stageRaw(manifest, encoding === 'zstd' ? zstdCompressSync(nars) : nars, {
        id,
        encoding,
      });
    },
    async publish(id, by = publisher()) {
      const published = await by.publishBatch(id);
      for (let waiting = wakes.shift(); waiting; waiting = wakes.shift()) {
        const resumed = await by.resumePath(waiting);
        if (resumed) published.push(resumed);
      }
      return published;
    },
    async sweep(by = publisher(), random = () => 0) {
      return sweep({
        ...buckets,
        publisher: by,
        waitingDays: config.limits.waitingDays,
        staleMs: 2 * by.timeLimitMs,
        now,
        random,
      });
    },
    async receipt(upload, subject) {
      const name = typeof subject === 'number' ? String(subject) : receiptSubject(subject.path);
      const listed = (await listStrongestReceipts(buckets.staging, upload)).get(name);
      return listed ? readListedReceipt(buckets.staging, listed) : null;
    },
  };
}

/** Returns the first components of all keys outside of the public root, each once, sorted. */
export async function leftPrefixes(cache: CacheBuckets): Promise<string[]> {
  const keys = [...(await listKeys(cache.staging)), ...(await listKeys(cache.private))];
  return [...new Set(keys.map((key) => key.split('/')[0] ?? ''))].sort();
}

/** Returns the public key of a test key, in the format of `niche.json`. */
export function publicKeyOf(key: SecretKey): string {
  return formatPublicKey(key.publicKey);
}

/** Returns every audit record, sorted by path. */
export async function auditRecords(cache: Pick<TestCache, 'private'>): Promise<AuditRecord[]> {
  const records: AuditRecord[] = [];
  for await (const record of readAuditRecords(cache.private)) records.push(record);
  return records.sort((one, other) => (one.path < other.path ? -1 : 1));
}
