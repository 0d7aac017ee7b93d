import { NicheError } from '../errors.ts';
import { maxDocumentBytes, maxDocumentMs } from '../limits.ts';
import type {
  Bucket,
  ObjectInfo,
  PutOptions,
  PutOutcome,
  ReplaceOutcome,
} from '../storage/bucket.ts';
import type { ObjectReader } from '../storage/bucket.ts';
import { cacheControlOf, contentTypeOf } from './layout.ts';

/**
 * Reads a whole object into memory.
 *
 * @returns null when it is missing
 * @throws NicheError `oversized` when it is larger than `maxBytes`; `storage-unavailable` when it takes
 *   longer than {@link maxDocumentMs}; `storage-…` when it cannot be read
 */
export async function readObject(
  bucket: ObjectReader,
  key: string,
  maxBytes = maxDocumentBytes,
  signal?: AbortSignal,
): Promise<Buffer | null> {
  return (await readObjectWithInfo(bucket, key, maxBytes, signal))?.body ?? null;
}

/** Does the same as {@link readObject}, and returns the object's metadata too. */
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
  const begun = performance.now();
  for await (const chunk of object.body) {
    size += chunk.length;
    if (size > maxBytes) {
      throw new NicheError(
        'oversized',
        `${key} in ${bucket.url} is too large: expected at most ${maxBytes} bytes, got ${object.info.size}`,
      );
    }
    // Each chunk comes in bounded time, but a server could send one byte in each.
    if (performance.now() - begun > maxDocumentMs) {
      throw new NicheError(
        'storage-unavailable',
        `reading ${key} in ${bucket.url} failed: only ${size} bytes arrived within ${maxDocumentMs / 1000} s`,
      );
    }
    chunks.push(chunk);
  }
  return { body: Buffer.concat(chunks, size), info: object.info };
}

/** Does the same as {@link readObject}, and decodes UTF-8. */
export async function readText(
  bucket: ObjectReader,
  key: string,
  maxBytes?: number,
): Promise<string | null> {
  return (await readObject(bucket, key, maxBytes))?.toString('utf8') ?? null;
}

/** Stores `body` with the content type and caching of its key. */
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

/** Creates an object, unless it exists, for example from an earlier attempt. */
export async function createObject(
  bucket: Bucket,
  key: string,
  body: Uint8Array | string,
): Promise<PutOutcome> {
  return writeObject(bucket, key, body, { ifAbsent: true });
}

/**
 * Does the same as {@link createObject}, for an object that nothing depends on: a power failure may
 * lose or damage it.
 */
export async function createBestEffort(
  bucket: Bucket,
  key: string,
  body: Uint8Array | string,
): Promise<PutOutcome> {
  return writeObject(bucket, key, body, { ifAbsent: true, durable: false });
}

/** Stores an object that nothing depends on, see {@link createBestEffort}. Replaces an existing one. */
export async function writeBestEffort(
  bucket: Bucket,
  key: string,
  body: Uint8Array | string,
): Promise<void> {
  await writeObject(bucket, key, body, { durable: false });
}

/** Replaces an object if it still has `etag`, with the content type and caching of its key. */
export async function replaceObject(
  bucket: Bucket,
  key: string,
  body: string,
  etag: string,
): Promise<ReplaceOutcome> {
  return bucket.replace(key, Buffer.from(body), etag, {
    contentType: contentTypeOf(key),
    cacheControl: cacheControlOf(key),
  });
}
