import type { Bucket } from '../storage/bucket.ts';
import { rootNames, rootOf } from './layout.ts';
import type { CacheBuckets, RootName } from './layout.ts';

/**
 * Returns buckets that refuse the keys of other roots. An object in the wrong root could be written by
 * clients that must not write it, or be looked for where it never is.
 */
export function guardRoots(buckets: CacheBuckets): CacheBuckets {
  return forEachRoot((root) => guardRoot(buckets[root], root));
}

/** Does the same as {@link guardRoots} for one root. */
export function guardRoot(bucket: Bucket, root: RootName): Bucket {
  function assertOwn(keys: readonly string[]): void {
    const other = keys.find((key) => rootOf(key) !== root);
    if (other === undefined) return;
    // A fault of niche, and no failure of storage.
    throw new Error(`${other} belongs to the ${rootOf(other)} root, not to the ${root} root`);
  }

  const createInOrder = bucket.createInOrder?.bind(bucket);
  const resumeUpload = bucket.resumeUpload?.bind(bucket);
  const sweepUploads = bucket.sweepUploads?.bind(bucket);
  return {
    ...bucket,
    async head(key, options) {
      assertOwn([key]);
      return bucket.head(key, options);
    },
    async get(key, options) {
      assertOwn([key]);
      return bucket.get(key, options);
    },
    async put(key, body, options) {
      assertOwn([key]);
      return bucket.put(key, body, options);
    },
    ...(createInOrder && {
      async createInOrder(objects, options) {
        assertOwn(objects.map(({ key }) => key));
        return createInOrder(objects, options);
      },
    }),
    async replace(key, body, etag, options) {
      assertOwn([key]);
      return bucket.replace(key, body, etag, options);
    },
    async upload(key, options) {
      assertOwn([key]);
      return bucket.upload(key, options);
    },
    ...(resumeUpload && {
      async resumeUpload(key, token, options) {
        assertOwn([key]);
        return resumeUpload(key, token, options);
      },
    }),
    list(prefix, options) {
      if (prefix !== '') assertOwn([prefix]);
      return bucket.list(prefix, options);
    },
    async delete(keys, options) {
      assertOwn(keys);
      await bucket.delete(keys, options);
    },
    ...(sweepUploads && {
      async sweepUploads(prefix, olderThan) {
        assertOwn([prefix]);
        return sweepUploads(prefix, olderThan);
      },
    }),
  } satisfies Bucket;
}

/** Returns what `open` returns for each root. */
export function forEachRoot<T>(open: (root: RootName) => T): Readonly<Record<RootName, T>> {
  return Object.fromEntries(rootNames.map((root) => [root, open(root)])) as Record<RootName, T>;
}
