import { parseConfig } from '../../../core/cache/config.ts';
import type { CacheConfig } from '../../../core/cache/config.ts';
import { initCache } from '../../../core/cache/init.ts';
import { createLocalPublisher } from '../../../core/cache/publish/local-publisher.ts';
import type { LocalPath } from '../../../core/cache/stage/local-path.ts';
import { createStager } from '../../../core/cache/stage/stager.ts';
import { newUploadId } from '../../../core/cache/upload-id.ts';
import type { CacheBuckets } from '../../../core/cache/layout.ts';
import { createUpstreams } from '../../../core/cache/upstreams.ts';
import type { Upstream, Upstreams } from '../../../core/cache/upstreams.ts';
import { formatPublicKey, formatSecretKey, generateSecretKey } from '../../../core/nix/keys.ts';
import type { NarNode } from '../../../core/nix/nar-writer.ts';
import { defaultStoreDir, storeHash } from '../../../core/nix/store-path.ts';
import { secretKeySigner } from '../../../core/signing/secret-key.ts';
import type { Bucket } from '../../../core/storage/bucket.ts';
import { claimOf, inventedPath, treeNar } from './paths.ts';

/** The key of every test cache, in Nix's format. */
export const testSecretKey = formatSecretKey(generateSecretKey('test-1', Buffer.alloc(32, 7)));
export const testPublicKey = formatPublicKey(
  generateSecretKey('test-1', Buffer.alloc(32, 7)).publicKey,
);

export interface LocalTestPath extends LocalPath {
  /** The store hash. */
  readonly hash: string;
  /** The full store path. */
  readonly path: string;
}

/** A path with one file, which contains its references and then `contents`. */
export async function localTestPath(
  name: string,
  references: readonly { readonly path: string }[] = [],
  contents: Uint8Array = Buffer.from(`${name}\n`),
): Promise<LocalTestPath> {
  const path = inventedPath(name);
  const paths = references.map((reference) => reference.path).sort();
  const bytes = Buffer.concat([Buffer.from(`${paths.join('\n')}\n`), contents]);
  const file: NarNode = {
    type: 'regular',
    executable: false,
    size: bytes.length,
    contents: () => bytes,
  };
  const nar = await treeNar({ type: 'directory', entries: () => [['file', file]] });
  return {
    hash: storeHash(path),
    path,
    info: { ...claimOf(path, nar), references: paths },
    async *openNar() {
      yield await Promise.resolve(nar);
    },
  };
}

export interface BucketCache extends CacheBuckets {
  readonly config: CacheConfig;
  readonly upstreams: Upstreams;
  /** Stages the paths as one upload, and returns its ID. */
  stage(...paths: readonly LocalTestPath[]): Promise<string>;
  /** Stages and publishes the paths. */
  publish(...paths: readonly LocalTestPath[]): Promise<string>;
}

/** Creates a cache called `test` in `bucket`, which is all of its roots. */
export async function makeBucketCache(
  bucket: Bucket,
  options: {
    readonly compression?: 'zstd' | 'none';
    readonly upstreams?: readonly (Upstream & { readonly url?: string })[];
    readonly now?: () => Date;
  } = {},
): Promise<BucketCache> {
  const opened = options.upstreams ?? [];
  const config = parseConfig(
    JSON.stringify({
      version: 1,
      name: 'test',
      storeDir: defaultStoreDir,
      publicKeys: [testPublicKey],
      substituter: bucket.url,
      storage: bucket.url,
      staging: bucket.url,
      private: bucket.url,
      compression: { kind: options.compression ?? 'zstd' },
      upstreams: opened.map(({ reader, publicKey, url }) => ({
        url: url ?? reader.url,
        publicKey,
      })),
    }),
    'the configuration of a test',
  );
  await initCache(bucket, config);
  const upstreams = createUpstreams(opened, defaultStoreDir);
  const roots = { public: bucket, staging: bucket, private: bucket };
  const publisher = createLocalPublisher({
    ...roots,
    config,
    upstreams,
    signers: [secretKeySigner(testSecretKey)],
    version: 'niche test',
    ...(options.now ? { now: options.now } : {}),
  });

  async function stage(...paths: readonly LocalTestPath[]): Promise<string> {
    const upload = newUploadId(options.now?.());
    const stager = createStager({
      bucket,
      upload,
      storeDir: defaultStoreDir,
      onStaged: () => undefined,
      onFailed(_info, error) {
        throw error;
      },
    });
    for (const path of paths) stager.addPath(path);
    await stager.finish();
    return upload;
  }

  return {
    ...roots,
    config,
    upstreams,
    stage,
    async publish(...paths) {
      const upload = await stage(...paths);
      await publisher.submitStaged();
      await publisher.idle();
      return upload;
    },
  };
}
