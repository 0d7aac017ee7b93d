import { randomBytes } from 'node:crypto';
import { setTimeout as wait } from 'node:timers/promises';

import { NicheError, isNicheError, messageOf } from '../errors.ts';
import { encodeBase32 } from '../nix/base32.ts';
import type { Bucket } from '../storage/bucket.ts';
import {
  attemptsPrefix,
  auditPrefix,
  blockedPrefix,
  narInfoKey,
  pendingPrefix,
  uploadPrefix,
} from './layout.ts';
import type { CacheBuckets } from './layout.ts';
import { readObject } from './objects.ts';
import { newUploadId } from './upload-id.ts';

/** What credentials for clients may do in the staging root beyond creating objects. */
export interface UploaderRights {
  readonly overwrite: boolean;
  readonly read: boolean;
  readonly list: boolean;
  readonly delete: boolean;
}

/** How long credentials that were created moments ago may be denied everything. */
export interface Activation {
  /** In milliseconds. */
  readonly delayMs: number;
  /** @default waits */
  readonly sleep?: (ms: number) => Promise<unknown>;
}

/** Inactive credentials are tried again after this time, in milliseconds. */
const activationPollMs = 2_000;

/**
 * Tries credentials for clients on the storage: they must create objects in the staging root and
 * write nowhere else.
 *
 * @param client the roots, opened with these credentials
 * @param administrator the roots, opened with rights to delete what the test has created
 * @param activation for credentials that may not be active yet. @default they are
 * @returns what else they may do in the staging root
 * @throws NicheError `unsafe-credentials` when they write to the private or the public root, or when
 *   the storage does not plainly deny it; `storage-denied` when they cannot stage; `storage-…`
 */
export async function tryUploaderRights(
  client: CacheBuckets,
  administrator: CacheBuckets,
  activation: Activation = { delayMs: 0 },
): Promise<UploaderRights> {
  const id = randomBytes(16).toString('hex');
  // No manifest has such a key, so no publisher is woken.
  const stagingKey = `${uploadPrefix(newUploadId())}probe`;
  try {
    // First: inactive credentials are denied everything, which proves nothing.
    await stageOnceActive(client.staging, stagingKey, activation);
    for (const prefix of [pendingPrefix, blockedPrefix, auditPrefix, attemptsPrefix]) {
      await assertCannotWrite('private', `${prefix}probe-${id}`, client, administrator);
    }
    const publicKey = narInfoKey(encodeBase32(randomBytes(20)));
    await assertCannotWrite('public', publicKey, client, administrator);
    return await tryStagingRights(client.staging, stagingKey);
  } finally {
    // Not every administrator may delete there. A sweep deletes what is left.
    await administrator.staging.delete([stagingKey]).catch(() => undefined);
  }
}

/** Creates an object. While it is denied, tries again until the credentials must be active. */
async function stageOnceActive(
  staging: Bucket,
  key: string,
  { delayMs, sleep = wait }: Activation,
): Promise<void> {
  for (let left = delayMs; ; left -= activationPollMs) {
    try {
      await staging.put(key, Buffer.from('1'), { ifAbsent: true });
      return;
    } catch (error) {
      if (!isNicheError(error, 'storage-denied')) throw error;
      if (left <= 0) throw cannotStage(staging, error);
      await sleep(activationPollMs);
    }
  }
}

/** With several storages, a policy can grant rights only once the bucket exists. */
function cannotStage({ url }: Bucket, cause: NicheError): NicheError {
  return new NicheError(
    'storage-denied',
    `the credentials for clients cannot create objects in ${url}: ${cause.message}`,
    { cause, hint: 'allow them to create objects there, then run the same command again' },
  );
}

async function assertCannotWrite(
  root: 'public' | 'private',
  key: string,
  client: CacheBuckets,
  administrator: CacheBuckets,
): Promise<void> {
  const { url } = client[root];
  let why = 'they can write to it';
  try {
    await client[root].put(key, Buffer.from('1'));
  } catch (error) {
    if (isNicheError(error, 'storage-denied')) return;
    if (!isNicheError(error)) throw error;
    why = `the storage does not deny it: ${messageOf(error)}`;
  }
  // Also after a failure: the request may have created the object.
  const isDeleted = await administrator[root].delete([key]).then(
    () => true,
    () => false,
  );
  if (!isDeleted) why += `; ${key} may be left there`;
  throw new NicheError(
    'unsafe-credentials',
    `the credentials for clients must not write to the ${root} root ${url}, but ${why}`,
    { hint: 'limit them to the staging root: with more, a client can make anything be signed' },
  );
}

async function tryStagingRights(staging: Bucket, key: string): Promise<UploaderRights> {
  const overwrite = await isAllowed(() => staging.put(key, Buffer.from('2')));
  const read = await isAllowed(() => readObject(staging, key));
  const list = await isAllowed(async () => {
    await staging.list(key)[Symbol.asyncIterator]().next();
  });
  return { overwrite, read, list, delete: await isAllowed(() => staging.delete([key])) };
}

async function isAllowed(request: () => Promise<unknown>): Promise<boolean> {
  try {
    await request();
    return true;
  } catch (error) {
    if (isNicheError(error, 'storage-denied')) return false;
    throw error;
  }
}
