import { parseConfig, formatConfig } from '../../core/cache/config.ts';
import type { CacheConfig } from '../../core/cache/config.ts';
import { configKey, signingConfigKey } from '../../core/cache/layout.ts';
import type { CacheBuckets, RootName } from '../../core/cache/layout.ts';
import { forEachRoot, guardRoots } from '../../core/cache/roots.ts';
import { encryptSecret } from '../../core/cache/keys/create.ts';
import type { Upstreams } from '../../core/cache/upstreams.ts';
import { formatSecretKey } from '../../core/nix/keys.ts';
import type { Keyring } from '../../core/secrets/recipient.ts';
import { memoryBucket, memoryStore } from '../support/buckets/memory-bucket.ts';
import type {
  BucketHooks,
  BucketOperation,
  MemoryStore,
} from '../support/buckets/memory-bucket.ts';
import { publicKeyOf, testKey } from '../support/cache/kit.ts';
import { memoryUpstream } from '../support/cache/scenario.ts';
import type { Actor } from './checks.ts';
import type { Mutation } from './mutations.ts';
import type { Plan } from './plan.ts';
import type { Scenario } from './scenarios.ts';
import type { Scheduler, SimulatedProcess } from './scheduler.ts';

/** The storage of a cache, as the processes of a schedule see it. */
export interface World {
  readonly stores: Readonly<Record<RootName, MemoryStore>>;
  readonly config: CacheConfig;
  readonly upstreams: Upstreams;
  readonly keyring: Keyring;
  /** The buckets of a process: the schedule decides when each operation takes effect. */
  bucketsOf(process: SimulatedProcess & Actor): CacheBuckets;
  /** The buckets of the simulation itself, whose operations take effect at once. */
  readonly plain: CacheBuckets;
}

export interface WorldOptions {
  readonly scenario: Scenario;
  readonly plan: Plan;
  readonly scheduler: Scheduler;
  readonly mutation: Mutation | null;
  readonly now: () => Date;
  readonly onEffect: (
    actor: Actor,
    root: RootName,
    operation: BucketOperation,
    key: string,
  ) => void;
}

const firstKey = testKey('test-1');

const config = parseConfig(
  JSON.stringify({
    version: 1,
    name: 'test',
    storeDir: '/nix/store',
    publicKeys: [publicKeyOf(firstKey)],
    substituter: 'https://cache.test',
    storage: 'memory:///public',
    staging: 'memory:///staging',
    private: 'memory:///private',
    // Compression would take most of the time, and its threads would not repeat.
    compression: { kind: 'none', level: 3 },
  }),
  'the test configuration',
);

/** Keeps data keys as they are. The simulation is about the protocol, not about secrets. */
const keyring: Keyring = {
  identities: [
    {
      kind: 'age',
      unwrap: ({ wrapped }) => Promise.resolve(Buffer.from(wrapped, 'base64')),
      tried: () => [],
    },
  ],
  wrap: (_, dataKey) => Promise.resolve(Buffer.from(dataKey).toString('base64')),
};

const signingText = await encryptSecret(
  { version: 1, secretKeys: [formatSecretKey(firstKey)] },
  [{ kind: 'age', recipient: 'age1test' }],
  keyring,
);

const upstreamsOf = new WeakMap<Scenario, Upstreams>();

/** Opens the upstreams of each scenario once: they never change. */
export async function prepareScenario(scenario: Scenario): Promise<void> {
  if (!upstreamsOf.has(scenario)) {
    upstreamsOf.set(scenario, await memoryUpstream(scenario.upstream ?? []));
  }
}

export function createWorld(options: WorldOptions): World {
  const { plan, scheduler, mutation, now, onEffect } = options;
  const stores = { public: memoryStore(), staging: memoryStore(), private: memoryStore() };
  const open = (root: RootName, hooks: BucketHooks = {}) =>
    memoryBucket({
      store: stores[root],
      url: `memory:///${root}`,
      now,
      pageSize: plan.pageSize,
      createsInOrder: plan.createsInOrder,
      ...hooks,
    });
  const plain = forEachRoot((root) => open(root));
  const known = new WeakMap<SimulatedProcess, CacheBuckets>();

  function openBuckets(process: SimulatedProcess & Actor): CacheBuckets {
    const openFor = (root: RootName) =>
      open(
        root,
        scheduler.hooks(process, root, (operation, key) => {
          onEffect(process, root, operation, key);
        }),
      );
    const buckets = guardRoots(forEachRoot(openFor));
    return mutation?.roles.includes(process.role) === true ? mutation.wrap(buckets) : buckets;
  }

  return {
    stores,
    config,
    keyring,
    plain,
    upstreams: upstreamsOf.get(options.scenario)!,
    bucketsOf(process) {
      const buckets = known.get(process) ?? openBuckets(process);
      known.set(process, buckets);
      return buckets;
    },
  };
}

const configText = Buffer.from(formatConfig(config));

/** Stores the documents that every cache begins with. */
export async function initWorld({ plain }: World): Promise<void> {
  await plain.public.put(configKey, configText);
  await plain.private.put(signingConfigKey, Buffer.from(signingText));
}
