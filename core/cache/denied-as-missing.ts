import { isNicheError } from '../errors.ts';
import type { ObjectReader, RequestOptions } from '../storage/bucket.ts';
import { HttpStatusError } from '../storage/http/reader.ts';
import { waitUnlessAborted } from '../util/abort.ts';
import { createCoalescer } from '../util/concurrency.ts';
import { cacheInfoKey, configKey, clientConfigKey, debugPrefix, logPrefix } from './layout.ts';

/**
 * Returns a reader that treats 403 as "not found" for keys that may legitimately be absent: S3
 * returns 403 for an absent key to clients that may not list. A denial means "not found" only if
 * `nix-cache-info` of the same root is readable afterwards, as the credentials may have expired.
 *
 * Nothing is cached. Denials that arrive together share one request for `nix-cache-info`; those that
 * arrive during it share the next one, since only a later response proves anything about them. A
 * burst costs one or two more requests. Each denial in a sequence costs one more: twice the requests
 * of a reader that may list. Large lookups list instead, where they may.
 *
 * @param reader keeps its other methods, so a bucket stays a bucket
 */
export function deniedAsMissing<Reader extends ObjectReader>(reader: Reader): Reader {
  const probe = createCoalescer<(isReadable: boolean) => void>(async (group) => {
    // Many callers share it, so none of their signals ends it.
    const isReadable = await reader.head(cacheInfoKey).then(
      (info) => info !== null,
      () => false,
    );
    for (const resolve of group) resolve(isReadable);
  });

  async function unlessDenied<T>(
    key: string,
    options: RequestOptions | undefined,
    request: () => Promise<T | null>,
  ): Promise<T | null> {
    try {
      return await request();
    } catch (error) {
      if (!mayBeAbsent(key) || !isForbidden(error)) throw error;
      const probing = new Promise<boolean>(probe);
      const action = `reading ${key} in ${reader.url}`;
      if (await waitUnlessAborted(probing, options?.signal, action)) return null;
      throw error;
    }
  }

  return {
    ...reader,
    head: (key, options) => unlessDenied(key, options, () => reader.head(key, options)),
    get: (key, options) => unlessDenied(key, options, () => reader.get(key, options)),
  };
}

/** Whether a cache may lack `key`. A NAR must exist where a narinfo refers to it. */
function mayBeAbsent(key: string): boolean {
  return (
    key.endsWith('.narinfo') ||
    key.endsWith('.ls') ||
    key.endsWith('.doi') ||
    key.startsWith(logPrefix) ||
    key.startsWith(debugPrefix) ||
    key === configKey ||
    key === clientConfigKey
  );
}

/** 401 means that a login is missing, which proves nothing about the object. */
function isForbidden(error: unknown): boolean {
  if (!isNicheError(error, 'storage-denied')) return false;
  return !(error.cause instanceof HttpStatusError && error.cause.status === 401);
}
