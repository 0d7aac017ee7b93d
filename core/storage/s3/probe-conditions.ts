import { randomUUID } from 'node:crypto';
import { isNicheError } from '../../errors.ts';
import type { Bucket, PutOutcome, ReplaceOutcome } from '../bucket.ts';
import { isS3Error } from './errors.ts';
import { partBytes } from './multipart-upload.ts';
import type { S3Conditional } from './url.ts';

const body = Buffer.from('niche checks which conditional writes this storage honours\n');

/**
 * Finds out which conditional writes the server honours, by trying each kind with a condition that
 * does not hold. Some servers refuse conditions and some ignore them, which no other response shows.
 * Leaves nothing behind.
 *
 * @param bucket opened as if the server honoured all
 * @throws NicheError `storage-denied`, `storage-unavailable`
 */
export async function probeConditions(bucket: Bucket): Promise<S3Conditional> {
  const key = `niche-probe-${randomUUID()}`;
  await bucket.put(key, body);
  try {
    return await probeWith(bucket, key);
  } finally {
    await bucket.delete([key]);
  }
}

/** @param key of an object that exists */
async function probeWith(bucket: Bucket, key: string): Promise<S3Conditional> {
  const create = { ifAbsent: true };
  if (!(await isRefused(async () => bucket.put(key, body, create)))) return 'no';
  if (!(await isRefused(async () => bucket.replace(key, body, '"0"')))) return 'no';
  const upload = await bucket.upload(key);
  try {
    await upload.write(Buffer.alloc(partBytes + 1));
    return (await isRefused(async () => upload.commit(create))) ? 'yes' : 'put';
  } finally {
    await upload.abort();
  }
}

/** Whether the condition stops `write`. A server without conditions may respond with 501. */
async function isRefused(write: () => Promise<PutOutcome | ReplaceOutcome>): Promise<boolean> {
  try {
    const outcome = await write();
    return outcome === 'exists' || outcome === 'changed';
  } catch (error) {
    if (isNicheError(error, 'storage-unavailable') && isS3Error(error.cause, 501)) return false;
    throw error;
  }
}
