import type { Bucket, GetOptions } from '../../../core/storage/bucket.ts';

/** Returns a whole body as one array. The chunks may be reused buffers. */
export async function collect(body: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(Uint8Array.from(chunk));
  return Buffer.concat(chunks);
}

/** Returns the bytes of an object, or `null`. */
export async function readObject(
  bucket: Bucket,
  key: string,
  options?: GetOptions,
): Promise<Buffer | null> {
  const found = await bucket.get(key, options);
  return found === null ? null : collect(found.body);
}

export async function listKeys(bucket: Bucket, prefix = ''): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of bucket.list(prefix)) keys.push(key);
  return keys;
}

/** Returns bytes that differ by position, so that tests notice shifted or swapped parts. */
export function patternBytes(length: number, seed = 1): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  let state = seed >>> 0 || 1;
  for (let index = 0; index < length; index += 1) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    bytes[index] = state >>> 24;
  }
  return bytes;
}
