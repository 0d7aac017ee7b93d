import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { pathToFileURL } from 'node:url';

import { configVersion, parseConfig } from '../../../core/cache/config.ts';
import type { CacheConfig } from '../../../core/cache/config.ts';
import { initCache } from '../../../core/cache/init.ts';
import { narInfoKey } from '../../../core/cache/layout.ts';
import { writeObject } from '../../../core/cache/objects.ts';
import { fingerprint } from '../../../core/nix/fingerprint.ts';
import { formatPublicKey, generateSecretKey, signFingerprint } from '../../../core/nix/keys.ts';
import type { SecretKey } from '../../../core/nix/keys.ts';
import { formatNarInfo } from '../../../core/nix/narinfo.ts';
import type { NarInfo } from '../../../core/nix/narinfo.ts';
import { storeHash } from '../../../core/nix/store-path.ts';
import type { Bucket } from '../../../core/storage/bucket.ts';
import { openFileBucket } from '../../../core/storage/file/driver.ts';

/** A cache in a directory, with one path. */
export interface SmallCache {
  readonly directory: string;
  readonly url: string;
  readonly bucket: Bucket;
  readonly config: CacheConfig;
  readonly secretKey: SecretKey;
  readonly publicKey: string;
  /** Its only path. */
  readonly storePath: string;
  readonly narKey: string;
  readonly nar: Uint8Array;
}

const storePathName = '00bgd045z0d4icpbc2yyz4gx48ak44la-small-1.0';

/** Creates a folder that is deleted after the test. */
export async function temporaryFolder(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'niche-test-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

export interface SmallCacheOptions {
  readonly storeDir?: string;
  readonly name?: string;
  /** Signatures of the narinfo instead of the valid one. */
  readonly signatures?: readonly string[];
}

/** Creates a cache with one path. Its NAR is not valid, which suffices to copy it. */
export async function makeSmallCache(
  t: TestContext,
  { storeDir = '/nix/store', name = 'small', signatures }: SmallCacheOptions = {},
): Promise<SmallCache> {
  const directory = await temporaryFolder(t);
  const url = pathToFileURL(directory).href;
  const bucket = openFileBucket(directory);
  const secretKey = generateSecretKey(`${name}-1`);
  const publicKey = formatPublicKey(secretKey.publicKey);
  const config = parseConfig(
    JSON.stringify({
      version: configVersion,
      name,
      storeDir,
      publicKeys: [publicKey],
      substituter: url,
      storage: url,
      staging: url,
      private: url,
      upstreams: [],
    }),
    'a test',
  );
  await initCache(bucket, config);
  const nar = Buffer.alloc(300_000, 'not really a NAR ');
  const narHash = `sha256:${'0'.repeat(52)}`;
  const narKey = `nar/${'0'.repeat(52)}.nar`;
  const unsigned: NarInfo = {
    path: `${storeDir}/${storePathName}`,
    url: narKey,
    compression: 'none',
    fileHash: narHash,
    fileSize: nar.length,
    narHash,
    narSize: nar.length,
    references: [],
    deriver: null,
    signatures: [],
    ca: null,
    extra: [],
  };
  const signed = {
    ...unsigned,
    signatures: signatures ?? [signFingerprint(fingerprint(unsigned, storeDir), secretKey)],
  };
  await writeObject(bucket, narKey, nar);
  await writeObject(bucket, narInfoKey(storeHash(signed.path)), formatNarInfo(signed, storeDir));
  return {
    directory,
    url,
    bucket,
    config,
    secretKey,
    publicKey,
    storePath: signed.path,
    narKey,
    nar,
  };
}
