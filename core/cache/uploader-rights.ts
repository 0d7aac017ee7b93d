import { randomBytes } from 'node:crypto';
import { setTimeout as wait } from 'node:timers/promises';

import { NicheError, isNicheError, messageOf } from '../errors.ts';
import type { Bucket } from '../storage/bucket.ts';
import { logPrefix, narInfoKey, narPrefix, privatePrefixes, uploadPrefix } from './layout.ts';
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

/** Returns keys of each kind of object that clients must not write, which no object has. */
const probeKeys = (id: string): Readonly<Record<'public' | 'private', readonly string[]>> => ({
  private: privatePrefixes.map((prefix) => `${prefix}probe-${id}`),
  public: [narInfoKey(id), `${narPrefix}probe-${id}`, `${logPrefix}probe-${id}`],
});

/** Inactive credentials are tried again after this time, in milliseconds. */
const activationPollMs = 2_000;

/**
 * Tries credentials for clients on the storage: they must create objects in the staging root, change
 * nothing in the others, and read nothing in the private one. An object that exists, such as
 * `niche.json`, is not tried: that could damage it.
 *
 * @param client the roots, opened with these credentials
 * @param administrator the roots, opened with rights to delete what the test has created
 * @param activation for credentials that may not be active yet. @default they are
 * @returns what else they may do in the staging root
 * @throws NicheError `unsafe-credentials` when they have more rights in the private or the public root, or when
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
    for (const root of ['private', 'public'] as const) {
      await assertNoRights(root, probeKeys(id)[root], client, administrator);
    }
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

/**
 * Tries to write, to read and to delete each of these keys.
 *
 * @throws NicheError `unsafe-credentials`
 */
async function assertNoRights(
  root: 'public' | 'private',
  keys: readonly string[],
  client: CacheBuckets,
  administrator: CacheBuckets,
): Promise<void> {
  for (const key of keys) {
    const attempts: [action: string, request: () => Promise<unknown>][] = [
      ['write to', () => client[root].put(key, Buffer.from('1'))],
      ['delete from', () => client[root].delete([key])],
    ];
    try {
      for (const [action, request] of attempts) await assertDenied(action, root, client, request);
      if (root === 'private') {
        // Some storages also deny reading an object that is missing, which proves nothing.
        // Not every administrator may write it.
        const isThere = await isAllowed(() => administrator.private.put(key, Buffer.from('1')));
        const read = (): Promise<unknown> => readObject(client.private, key);
        if (isThere) await assertDenied('read', root, client, read);
      }
    } finally {
      // Also after a failure: the request may have created the object.
      await administrator[root].delete([key]).catch(() => undefined);
    }
  }
}

/** @throws NicheError `unsafe-credentials` unless the storage plainly denies the request */
async function assertDenied(
  action: string,
  root: 'public' | 'private',
  client: CacheBuckets,
  request: () => Promise<unknown>,
): Promise<void> {
  let why = 'they can';
  try {
    await request();
  } catch (error) {
    if (isNicheError(error, 'storage-denied')) return;
    if (!isNicheError(error)) throw error;
    why = `the storage does not deny it: ${messageOf(error)}`;
  }
  throw new NicheError(
    'unsafe-credentials',
    `the credentials for clients must not ${action} the ${root} root ${client[root].url}, but ${why}`,
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
