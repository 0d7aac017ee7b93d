import { createHash } from 'node:crypto';
import { parseConfig } from '../../core/cache/config.ts';
import type { CacheConfig } from '../../core/cache/config.ts';
import { initCache } from '../../core/cache/init.ts';
import { createLocalPublisher } from '../../core/cache/local-publisher.ts';
import type { LocalPath } from '../../core/cache/staging.ts';
import { createStager } from '../../core/cache/staging.ts';
import { newUploadId } from '../../core/cache/upload-id.ts';
import { createUpstreams } from '../../core/cache/upstreams.ts';
import type { OpenUpstream, Upstreams } from '../../core/cache/upstreams.ts';
import { encodeBase32 } from '../../core/nix/base32.ts';
import { formatHash } from '../../core/nix/hash.ts';
import { formatPublicKey, formatSecretKey, generateSecretKey } from '../../core/nix/keys.ts';
import { writeNar } from '../../core/nix/nar-writer.ts';
import { secretKeySigner } from '../../core/signing/secret-key.ts';
import type { Bucket } from '../../core/storage/bucket.ts';
import { collect } from './bytes.ts';

const storeDir = '/nix/store';

/** The key of every test cache, in Nix's own form. */
export const testSecretKey = formatSecretKey(generateSecretKey('test-1', Buffer.alloc(32, 7)));
export const testPublicKey = formatPublicKey(
  generateSecretKey('test-1', Buffer.alloc(32, 7)).publicKey,
);

export interface TestPath extends LocalPath {
  /** The store hash. */
  readonly hash: string;
  /** The full store path. */
  readonly path: string;
}

/** A path with one file, which names its references and then holds `contents`. */
export async function testPath(
  name: string,
  references: readonly { readonly path: string }[] = [],
  contents: Uint8Array = Buffer.from(`${name}\n`),
): Promise<TestPath> {
  const digest = createHash('sha256').update(name).digest().subarray(0, 20);
  const hash = encodeBase32(digest);
  const path = `${storeDir}/${hash}-${name}`;
  const paths = references.map((reference) => reference.path).sort();
  const bytes = Buffer.concat([Buffer.from(`${paths.join('\n')}\n`), contents]);
  const nar = await collect(
    writeNar({
      type: 'directory',
      entries: () => [
        ['file', { type: 'regular', executable: false, size: bytes.length, contents: () => bytes }],
      ],
    }),
  );
  const narHash = formatHash(
    { algorithm: 'sha256', digest: createHash('sha256').update(nar).digest() },
    'base32',
  );
  return {
    hash,
    path,
    info: {
      path,
      narHash,
      narSize: nar.length,
      references: paths,
      deriver: null,
      ca: null,
      signatures: [],
    },
    async *openNar() {
      yield await Promise.resolve(nar);
    },
  };
}

export interface TestCache {
  readonly public: Bucket;
  readonly private: Bucket;
  readonly config: CacheConfig;
  readonly upstreams: Upstreams;
  /** Stages the paths as one upload, whose id it returns. */
  stage(...paths: readonly TestPath[]): Promise<string>;
  /** Stages and publishes the paths. */
  publish(...paths: readonly TestPath[]): Promise<string>;
}

/** A cache called `test` in `bucket`, which is both of its roots. */
export async function makeTestCache(
  bucket: Bucket,
  options: {
    readonly compression?: 'zstd' | 'none';
    readonly upstreams?: readonly (OpenUpstream & { readonly url?: string })[];
    readonly now?: () => Date;
  } = {},
): Promise<TestCache> {
  const opened = options.upstreams ?? [];
  const config = parseConfig(
    JSON.stringify({
      version: 1,
      name: 'test',
      storeDir,
      publicKeys: [testPublicKey],
      substituter: bucket.url,
      storage: bucket.url,
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
  const upstreams = createUpstreams(opened, storeDir);
  const publisher = createLocalPublisher({
    public: bucket,
    private: bucket,
    config,
    upstreams,
    signers: [secretKeySigner(testSecretKey)],
    version: 'niche test',
    ...(options.now ? { now: options.now } : {}),
  });

  async function stage(...paths: readonly TestPath[]): Promise<string> {
    const upload = newUploadId(options.now?.());
    const stager = createStager({
      bucket,
      upload,
      storeDir,
      onStaged: () => undefined,
      onFailed(_info, error) {
        throw error;
      },
    });
    for (const path of paths) stager.add(path);
    await stager.finish();
    return upload;
  }

  return {
    public: bucket,
    private: bucket,
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
