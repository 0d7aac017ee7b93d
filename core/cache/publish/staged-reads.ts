import { NicheError, isNicheError } from '../../errors.ts';
import { maxAttempts } from '../../limits.ts';
import type { Bucket, StoredObject } from '../../storage/bucket.ts';
import { receiptsPrefix, stagingPrefix } from '../layout.ts';
import { startAnywhere } from './fair-turns.ts';

/** Objects below each prefix that are listed, and that are read until one can be read. */
const maxListed = 1000;
const maxRead = 8;

/**
 * Returns the staging root for reading a batch. An uploader can stage an object that no publisher can
 * read: in a directory without read permission, in an archive tier, or encrypted with a key of their
 * own. When reading such an object has failed {@link maxAttempts} times, the next failure is a
 * rejection. An outage and lost credentials never count, see {@link canReadOthers}.
 *
 * Reading throws NicheError `failed` for that rejection, and the bucket's errors.
 *
 * @param countFailure records a failure, and returns the number of earlier ones
 */
export function rejectUnreadable(bucket: Bucket, countFailure: () => Promise<number>): Bucket {
  async function explain(error: unknown, key: string): Promise<unknown> {
    if (!isReadFailure(error) || !(await canReadOthers(bucket, key))) return error;
    if ((await countFailure()) < maxAttempts) return error;
    return new NicheError(
      'failed',
      `the publisher failed ${maxAttempts} times to read ${key}, but it can read other staged objects: ${error.message}`,
      { cause: error },
    );
  }

  async function* explainBody({ body }: StoredObject, key: string): AsyncIterable<Uint8Array> {
    try {
      yield* body;
    } catch (error) {
      throw await explain(error, key);
    }
  }

  return {
    ...bucket,
    async get(key, options) {
      try {
        const object = await bucket.get(key, options);
        return object && { ...object, body: explainBody(object, key) };
      } catch (error) {
        throw await explain(error, key);
      }
    },
  };
}

/** Whether `error` may be about the object that was read, and not only about the storage. */
function isReadFailure(error: unknown): error is NicheError {
  return isNicheError(
    error,
    'storage-denied',
    'storage-unavailable',
    'storage-integrity',
    'invalid-key',
  );
}

/**
 * Returns whether another object of the staging root can be read now: a staged one, else a receipt. If
 * so, the storage is up and the credentials are valid, so a failure to read `key` is about that object.
 * A publisher that may read receipts, and has lost its rights on `staging/` only, is not noticed.
 */
async function canReadOthers(bucket: Bucket, key: string): Promise<boolean> {
  for (const prefix of [stagingPrefix, receiptsPrefix]) {
    try {
      const others = await listOthers(bucket, prefix, key);
      for (const other of startAnywhere(others, Math.random).slice(0, maxRead)) {
        if (await canRead(bucket, other)) return true;
      }
    } catch (error) {
      if (!isNicheError(error)) throw error;
    }
  }
  return false;
}

async function listOthers(bucket: Bucket, prefix: string, key: string): Promise<string[]> {
  const others: string[] = [];
  for await (const object of bucket.list(prefix)) {
    if (object.key !== key && object.size > 0) others.push(object.key);
    if (others.length === maxListed) break;
  }
  return others;
}

async function canRead(bucket: Bucket, key: string): Promise<boolean> {
  try {
    const object = await bucket.get(key, { range: { start: 0, end: 1 } });
    let size = 0;
    for await (const chunk of object?.body ?? []) size += chunk.length;
    return size > 0;
  } catch (error) {
    if (isNicheError(error)) return false;
    throw error;
  }
}
