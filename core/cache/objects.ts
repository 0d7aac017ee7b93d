import { NicheError } from '../errors.ts';
import { maxDocumentBytes } from '../limits.ts';
import type { Bucket, ObjectInfo, PutOptions, PutOutcome } from '../storage/bucket.ts';
import type { ObjectReader } from '../storage/bucket.ts';
import { cacheControlOf, contentTypeOf } from './layout.ts';

/**
 * Reads a small object whole.
 *
 * @returns its bytes; null when it is missing
 * @throws NicheError `oversized` when it is longer than `maxBytes`, and what the bucket throws
 */
export async function readObject(
  bucket: ObjectReader,
  key: string,
  maxBytes = maxDocumentBytes,
  signal?: AbortSignal,
): Promise<Buffer | null> {
  return (await readObjectWithInfo(bucket, key, maxBytes, signal))?.body ?? null;
}

/** {@link readObject}, with what its storage says of it. */
export async function readObjectWithInfo(
  bucket: ObjectReader,
  key: string,
  maxBytes = maxDocumentBytes,
  signal?: AbortSignal,
): Promise<{ readonly body: Buffer; readonly info: ObjectInfo } | null> {
  const object = await bucket.get(key, { signal });
  if (!object) return null;
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of object.body) {
    size += chunk.length;
    if (size > maxBytes) {
      throw new NicheError(
        'oversized',
        `${key} in ${bucket.url} is too large: expected at most ${maxBytes} bytes, it has ${object.info.size}`,
      );
    }
    chunks.push(chunk);
  }
  return { body: Buffer.concat(chunks, size), info: object.info };
}

/** {@link readObject}, as UTF-8 text. */
export async function readText(
  bucket: ObjectReader,
  key: string,
  maxBytes?: number,
): Promise<string | null> {
  return (await readObject(bucket, key, maxBytes))?.toString('utf8') ?? null;
}

/** Stores `body` with the content type and caching that the layout gives its key. */
export async function writeObject(
  bucket: Bucket,
  key: string,
  body: Uint8Array | string,
  options: PutOptions = {},
): Promise<PutOutcome> {
  return bucket.put(key, typeof body === 'string' ? Buffer.from(body) : body, {
    contentType: contentTypeOf(key),
    cacheControl: cacheControlOf(key),
    ...options,
  });
}

/** Creates an object that may be there already from an earlier attempt. */
export async function createObject(
  bucket: Bucket,
  key: string,
  body: Uint8Array | string,
): Promise<PutOutcome> {
  return writeObject(bucket, key, body, { ifAbsent: true });
}

/**
 * {@link createObject} for what no promise depends on: a loss of power may take it, or leave it
 * damaged.
 */
export async function createBestEffort(
  bucket: Bucket,
  key: string,
  body: Uint8Array | string,
): Promise<PutOutcome> {
  return writeObject(bucket, key, body, { ifAbsent: true, durable: false });
}
