import { isNicheError } from '../errors.ts';
import type { RequestOptions } from '../storage/bucket.ts';
import type { ObjectReader } from '../storage/bucket.ts';
import { cacheInfoKey } from './layout.ts';

/**
 * A reader for which an object that may well not be there is missing when it is denied: S3 answers 403
 * for an absent key to whoever may not list. It is believed once `nix-cache-info` has been read, which
 * shows that the credentials are good for the cache. NARs and documents that must be there stay denied.
 */
export function deniedAsMissing(reader: ObjectReader): ObjectReader {
  let readable: Promise<boolean> | undefined;

  async function unlessAbsent<T>(
    key: string,
    options: RequestOptions | undefined,
    work: () => Promise<T | null>,
  ): Promise<T | null> {
    try {
      return await work();
    } catch (error) {
      if (!isNicheError(error, 'storage-denied') || !mayBeAbsent(key)) throw error;
      readable ??= reader.head(cacheInfoKey, options).then(
        (info) => info !== null,
        () => false,
      );
      if (await readable) return null;
      // It may have been the wrong moment.
      readable = undefined;
      throw error;
    }
  }

  return {
    url: reader.url,
    head: (key, options) => unlessAbsent(key, options, () => reader.head(key, options)),
    get: (key, options) => unlessAbsent(key, options, () => reader.get(key, options)),
  };
}

function mayBeAbsent(key: string): boolean {
  return key.endsWith('.narinfo') || key.endsWith('.ls') || key.startsWith('log/');
}
