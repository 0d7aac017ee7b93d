import type { CacheConfig } from '../../core/cache/config.ts';
import { readConfig } from '../../core/cache/config.ts';
import { findDependents, resignNarInfos } from '../../core/cache/keys/resign.ts';
import { retireKey, rotateKey } from '../../core/cache/keys/rotate.ts';
import { openSigners } from '../../core/cache/keys/signing-keys.ts';
import { manifestKey, signingConfigKey, stagedNarsKey } from '../../core/cache/layout.ts';
import type { BatchId, WaitingMarker } from '../../core/cache/layout.ts';
import { formatManifest, formatRealisationManifest } from '../../core/cache/manifest.ts';
import { createPublisher } from '../../core/cache/publish/publisher.ts';
import type { Publisher } from '../../core/cache/publish/publisher.ts';
import { sweep } from '../../core/cache/publish/sweep.ts';
import {
  listStrongestReceipts,
  readListedReceipt,
} from '../../core/cache/receipts/listed-receipts.ts';
import { blockPath, unblockPath } from '../../core/cache/withdraw/block.ts';
import { purgeContents } from '../../core/cache/withdraw/purge.ts';
import { withdrawRefused } from '../../core/cache/withdraw/withdraw.ts';
import { NicheError, isNicheError } from '../../core/errors.ts';
import type { Realisation } from '../../core/nix/realisation.ts';
import { storeHash } from '../../core/nix/store-path.ts';
import type { Signer } from '../../core/signing/signer.ts';
import { testSigner } from '../support/cache/kit.ts';
import type { Cluster, ClusterProcess, Job } from './cluster.ts';
import type { Random } from './random.ts';
import type { AdminStep, BatchPaths } from './scenarios.ts';
import type { World } from './world.ts';

/** The jobs of publishers, clients and administrators: they call the code that ships. */
export interface Jobs {
  publish(id: BatchId): Job;
  sweep(): Job;
  stage(id: BatchId, paths: BatchPaths): Job;
  stageRealisations(id: BatchId, realisations: readonly Realisation[]): Job;
  /** Reads the receipts of an upload, as its client does. */
  poll(upload: string, onMissing: (path: string) => void): Job;
  administer(step: Exclude<AdminStep, { kind: 'stage' }>, onDone: () => void): Job;
}

export const timeLimitMs = 15 * 60 * 1000;
const version = 'simulation';
const firstSigner = testSigner('test-1');

export interface JobsOptions {
  readonly world: World;
  readonly cluster: Cluster;
  readonly random: Random;
  /** Whether an administrator changes the keys, so that each process has to read them. */
  readonly rotates: boolean;
  /** Advances the clock. */
  readonly advance: (ms: number) => void;
}

export function createJobs({ world, cluster, random, rotates, advance }: JobsOptions): Jobs {
  const { now } = cluster;
  const publishers = new WeakMap<ClusterProcess, Promise<Publisher>>();

  /** Opens the publisher of a process, with the keys that the cache has at that moment. */
  async function openPublisher(process: ClusterProcess): Promise<Publisher> {
    const buckets = world.bucketsOf(process);
    const config = rotates ? await readConfig(buckets.public) : world.config;
    return createPublisher({
      ...buckets,
      config,
      signers: rotates ? await openKeys(process, config) : [firstSigner],
      upstreams: world.upstreams,
      wake: (waiting) => {
        cluster.enqueue(resume(waiting));
        return Promise.resolve();
      },
      withdraw: (hash) => {
        cluster.enqueue(withdraw(hash));
        return Promise.resolve();
      },
      version,
      timeLimitMs,
      now,
    });
  }

  async function openKeys(process: ClusterProcess, config: CacheConfig): Promise<Signer[]> {
    const { identities } = world.keyring;
    const root = world.bucketsOf(process).private;
    return (await openSigners(root, config.publicKeys, identities)) ?? [];
  }

  function publisherOf(process: ClusterProcess): Promise<Publisher> {
    const known = publishers.get(process);
    if (known) return known;
    const opened = openPublisher(process);
    publishers.set(process, opened);
    opened.catch(() => publishers.delete(process));
    return opened;
  }

  const resume = (waiting: WaitingMarker): Job => ({
    name: `resume ${waiting.storeHash.slice(0, 4)} of ${waiting.upload.slice(-2)}`,
    role: 'publisher',
    run: async (process) => (await publisherOf(process)).resumePath(waiting),
  });

  const withdraw = (hash: string): Job => ({
    name: `withdraw ${hash.slice(0, 4)}`,
    role: 'sweep',
    run: (process) =>
      withdrawRefused({ ...world.bucketsOf(process), config: world.config, now }, hash),
  });

  async function runAdminStep(
    step: Exclude<AdminStep, { kind: 'stage' }>,
    process: ClusterProcess,
  ): Promise<void> {
    const buckets = world.bucketsOf(process);
    switch (step.kind) {
      case 'block':
        await blockPath(buckets, storeHash(step.path.info.path), {
          at: now().toISOString(),
          why: 'a test',
        });
        return;
      case 'unblock':
        await unblockPath(buckets.private, storeHash(step.path.info.path));
        return;
      case 'purge':
        await purgeContents({
          ...buckets,
          config: world.config,
          narHash: step.path.info.narHash,
          why: 'a test',
          now,
          sleep: () => sleep(process),
        });
        return;
      case 'rotate':
        await rotateKey(buckets, 'test-2', world.keyring).catch((error: unknown) => {
          // An attempt whose answer was lost has added the key.
          if (!isNicheError(error, 'usage')) throw error;
        });
        return;
      case 'redeploy':
        for (const one of cluster.processes.filter(({ role }) => role !== 'admin')) {
          cluster.kill(one);
        }
        cluster.advance(60_000);
        return;
      case 'resign':
        await resignAll(process);
        return;
      case 'retire':
        await retireFirstKey(process);
    }
  }

  /** Lets other processes take steps. Then several minutes may have passed. */
  async function sleep(process: ClusterProcess): Promise<void> {
    await world.bucketsOf(process).private.head(signingConfigKey);
    if (process.isAlive && random.chance(0.3)) advance(6 * 60_000);
  }

  async function resignAll(process: ClusterProcess): Promise<void> {
    const buckets = world.bucketsOf(process);
    const config = await readConfig(buckets.public);
    const signers = await openKeys(process, config);
    const { changed } = await resignNarInfos({ ...buckets, config, signers, version, now });
    if (changed > 0) throw new NicheError('changed-meanwhile', 'some narinfos have changed');
  }

  async function retireFirstKey(process: ClusterProcess): Promise<void> {
    const buckets = world.bucketsOf(process);
    const config = await readConfig(buckets.public);
    const [first = '', ...others] = config.publicKeys;
    // An attempt whose answer was lost has removed the key.
    if (others.length === 0) return;
    if ((await findDependents({ ...buckets, config }, first)).length > 0) {
      await resignAll(process);
      throw new NicheError('changed-meanwhile', 'narinfos depended on the key');
    }
    await retireKey(buckets, first, world.keyring);
  }

  return {
    publish: (id) => ({
      name: `publish ${id.upload.slice(-2)}/${id.batch}`,
      role: 'publisher',
      run: async (process) =>
        (await publisherOf(process)).publishBatch(id, { origin: { via: 'event' } }),
    }),
    sweep: () => ({
      name: 'sweep',
      role: 'sweep',
      run: async (process) =>
        sweep({
          ...world.bucketsOf(process),
          publisher: await publisherOf(process),
          waitingDays: world.config.limits.waitingDays,
          staleMs: 2 * timeLimitMs,
          now,
          random: () => random.fraction(),
        }),
    }),
    stage: (id, paths) => ({
      name: `stage ${id.upload.slice(-2)}/${id.batch}: ${paths.map(({ info }) => info.path.slice(44)).join(' ')}`,
      role: 'client',
      async run(process) {
        const bucket = world.bucketsOf(process).staging;
        const nars = Buffer.concat(paths.map(({ nar }) => nar));
        await bucket.put(stagedNarsKey(id, 'none'), nars, { ifAbsent: true });
        await bucket.put(manifestKey(id), manifestOf(paths), { ifAbsent: true });
      },
    }),
    stageRealisations: (id, realisations) => ({
      name: `stage ${id.upload.slice(-2)}/${id.batch}: ${realisations.length} realisations`,
      role: 'client',
      async run(process) {
        const bucket = world.bucketsOf(process).staging;
        const manifest = Buffer.from(formatRealisationManifest(realisations));
        await bucket.put(manifestKey(id), manifest, { ifAbsent: true });
      },
    }),
    poll: (upload, onMissing) => ({
      name: `poll ${upload.slice(-2)}`,
      role: 'client',
      async run(process) {
        const bucket = world.bucketsOf(process).staging;
        for (const listed of (await listStrongestReceipts(bucket, upload)).values()) {
          if (listed.status !== 'waiting') continue;
          const receipt = await readListedReceipt(bucket, listed);
          for (const path of receipt?.missing ?? []) onMissing(path);
        }
      },
    }),
    administer: (step, onDone) => ({
      name: step.kind,
      role: 'admin',
      run: (process) => runAdminStep(step, process),
      onDone,
    }),
  };
}

const manifests = new WeakMap<BatchPaths, Buffer>();

function manifestOf(paths: BatchPaths): Buffer {
  const known = manifests.get(paths);
  if (known) return known;
  const text = formatManifest({ encoding: 'none', paths: paths.map(({ info }) => info) });
  const manifest = Buffer.from(text);
  manifests.set(paths, manifest);
  return manifest;
}
