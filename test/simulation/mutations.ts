import { parseNarInfoKey } from '../../core/cache/layout.ts';
import type { CacheBuckets } from '../../core/cache/layout.ts';
import { isRealisationKey } from '../../core/nix/realisation.ts';
import type { Bucket, ListedObject, PutOptions } from '../../core/storage/bucket.ts';
import type { Role } from './checks.ts';

/** A fault of the code under test, made by wrapping its buckets. It shows that the checks can fail. */
export interface Mutation {
  readonly name: string;
  /** A scenario in which it shows. */
  readonly scenario: string;
  /** An invariant that it breaks: the first word of the failure. */
  readonly breaks: string;
  /** The processes that have it. */
  readonly roles: readonly Role[];
  /** Returns the faulty buckets of one process. */
  readonly wrap: (buckets: CacheBuckets) => CacheBuckets;
}

type Put = (
  key: string,
  body: Uint8Array,
  options: PutOptions | undefined,
) => ReturnType<Bucket['put']>;

const isNarInfo = (key: string): boolean => parseNarInfoKey(key) !== null;

/** Replaces the `put` of some keys. */
function withPut(bucket: Bucket, isMeant: (key: string) => boolean, put: Put): Bucket {
  return {
    ...bucket,
    put: (key, body, options) =>
      isMeant(key) ? put(key, body, options) : bucket.put(key, body, options),
  };
}

/** Puts some objects only after the next object with another kind of key. */
function putLate(
  buckets: CacheBuckets,
  root: keyof CacheBuckets,
  isLate: (key: string) => boolean,
  isNext: (key: string) => boolean,
): CacheBuckets {
  let late: (() => Promise<unknown>)[] = [];
  const wrap = (bucket: Bucket): Bucket => ({
    ...bucket,
    async put(key, body, options) {
      if (bucket === buckets[root] && isLate(key)) {
        const copy = new Uint8Array(body);
        late.push(() => bucket.put(key, copy, options));
        return 'created';
      }
      const outcome = await bucket.put(key, body, options);
      if (!isNext(key)) return outcome;
      const all = late;
      late = [];
      for (const put of all) await put();
      return outcome;
    },
  });
  return {
    public: wrap(buckets.public),
    staging: wrap(buckets.staging),
    private: wrap(buckets.private),
  };
}

/** Puts the first of two narinfos after the second. */
function putPairsSwapped(bucket: Bucket): Bucket {
  let held: (() => Promise<unknown>) | null = null;
  return {
    ...bucket,
    async put(key, body, options) {
      if (!isNarInfo(key)) return bucket.put(key, body, options);
      if (held === null) {
        const copy = new Uint8Array(body);
        held = () => bucket.put(key, copy, options);
        return 'created';
      }
      const outcome = await bucket.put(key, body, options);
      await held();
      held = null;
      return outcome;
    },
  };
}

/** Lists nothing under a prefix. */
function withoutList(bucket: Bucket, hidden: string): Bucket {
  return {
    ...bucket,
    async *list(prefix, options) {
      if (prefix !== hidden) yield* bucket.list(prefix, options);
    },
  };
}

/** Leaves out the keys that begin with a prefix from every listing. */
function withoutListed(bucket: Bucket, hidden: string): Bucket {
  return {
    ...bucket,
    async *list(prefix, options) {
      for await (const object of bucket.list(prefix, options)) {
        if (!object.key.startsWith(hidden)) yield object;
      }
    },
  };
}

/** Lists a prefix once, and then returns the same. */
function listOnce(bucket: Bucket, once: string): Bucket {
  let first: ListedObject[] | null = null;
  return {
    ...bucket,
    async *list(prefix, options) {
      if (prefix !== once) {
        yield* bucket.list(prefix, options);
        return;
      }
      if (first === null) {
        const listed: ListedObject[] = [];
        for await (const object of bucket.list(prefix, options)) listed.push(object);
        first = listed;
      }
      yield* first;
    },
  };
}

const publishing: readonly Role[] = ['publisher', 'sweep'];

export const mutations: readonly Mutation[] = [
  {
    name: 'receipt-before-narinfo',
    ...{ scenario: 'pair', breaks: 'I4', roles: publishing },
    wrap: (buckets) => putLate(buckets, 'public', isNarInfo, (key) => key.startsWith('receipts/')),
  },
  {
    name: 'narinfo-before-nar',
    ...{ scenario: 'pair', breaks: 'I1', roles: publishing },
    wrap: (buckets) => putLate(buckets, 'public', (key) => key.startsWith('nar/'), isNarInfo),
  },
  {
    name: 'narinfo-before-audit',
    ...{ scenario: 'pair', breaks: 'I6', roles: publishing },
    wrap: (buckets) => putLate(buckets, 'private', (key) => key.startsWith('audit/'), isNarInfo),
  },
  {
    name: 'narinfos-overwrite',
    ...{ scenario: 'twins', breaks: 'I3', roles: publishing },
    wrap: ({ public: bucket, ...others }) => ({
      ...others,
      public: withPut(bucket, isNarInfo, (key, body, options) =>
        bucket.put(key, body, { ...options, ifAbsent: false }),
      ),
    }),
  },
  {
    name: 'references-last',
    ...{ scenario: 'one-batch', breaks: 'I2', roles: publishing },
    wrap: ({ public: bucket, ...others }) => ({ ...others, public: putPairsSwapped(bucket) }),
  },
  {
    name: 'receipt-lost',
    ...{ scenario: 'pair', breaks: 'I4', roles: publishing },
    wrap: ({ staging: bucket, ...others }) => ({
      ...others,
      staging: withPut(
        bucket,
        (key) => key.startsWith('receipts/'),
        () => Promise.resolve('created'),
      ),
    }),
  },
  {
    name: 'sweep-without-waiting',
    ...{ scenario: 'pair', breaks: 'I4', roles: ['sweep'] },
    wrap: ({ private: bucket, ...others }) => ({
      ...others,
      private: withoutList(bucket, 'pending/'),
    }),
  },
  {
    name: 'sweep-without-staging',
    ...{ scenario: 'pair', breaks: 'I4', roles: ['sweep'] },
    wrap: ({ staging: bucket, ...others }) => ({
      ...others,
      staging: withoutList(bucket, 'staging/'),
    }),
  },
  {
    name: 'blocked-read-once',
    ...{ scenario: 'block', breaks: 'blocked', roles: ['publisher'] },
    wrap: ({ private: bucket, ...others }) => ({
      ...others,
      private: listOnce(bucket, 'blocked/'),
    }),
  },
  {
    name: 'refused-contents-ignored',
    ...{ scenario: 'purge', breaks: 'I1', roles: ['publisher'] },
    wrap: ({ private: bucket, ...others }) => ({
      ...others,
      private: withoutListed(bucket, 'blocked/nar-'),
    }),
  },
  {
    name: 'purge-keeps-nars',
    ...{ scenario: 'purge', breaks: 'purged', roles: ['admin', 'sweep'] },
    wrap: ({ public: bucket, ...others }) => ({
      ...others,
      public: withoutListed(bucket, 'nar/'),
    }),
  },
  {
    name: 'realisation-before-narinfo',
    ...{ scenario: 'realisations', breaks: 'I8', roles: publishing },
    wrap: (buckets) => putLate(buckets, 'public', isNarInfo, isRealisationKey),
  },
  {
    name: 'realisations-overwrite',
    ...{ scenario: 'realisations', breaks: 'I8', roles: publishing },
    wrap: ({ public: bucket, ...others }) => ({
      ...others,
      public: withPut(bucket, isRealisationKey, (key, body, options) =>
        bucket.put(key, body, { ...options, ifAbsent: false }),
      ),
    }),
  },
  {
    name: 'withdrawal-keeps-realisations',
    ...{ scenario: 'realisations-block', breaks: 'blocked', roles: ['admin', 'sweep'] },
    wrap: ({ private: bucket, ...others }) => ({
      ...others,
      private: withoutListed(bucket, 'realised/'),
    }),
  },
  {
    name: 'publisher-deletes',
    ...{ scenario: 'pair', breaks: 'roles', roles: ['publisher'] },
    wrap: ({ public: bucket, ...others }) => ({
      ...others,
      public: withPut(bucket, isNarInfo, async (key, body, options) => {
        await bucket.delete([key]);
        return bucket.put(key, body, options);
      }),
    }),
  },
];

export function findMutation(name: string | undefined): Mutation | null {
  if (name === undefined) return null;
  const found = mutations.find((mutation) => mutation.name === name);
  if (found) return found;
  throw new Error(`no mutation ${name}: expected ${mutations.map((each) => each.name).join(', ')}`);
}
