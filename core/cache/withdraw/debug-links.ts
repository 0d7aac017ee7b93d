import { isNicheError } from '../../errors.ts';
import { maxDebugListingBytes, maxNarInfoBytes } from '../../limits.ts';
import { findDebugFiles, formatDebugLink } from '../../nix/debug-info.ts';
import type { Bucket } from '../../storage/bucket.ts';
import { mapConcurrent } from '../../util/concurrency.ts';
import { debugKey, listingKey, narInfoKey } from '../layout.ts';
import { readObject } from '../objects.ts';

const deletesAtOnce = 16;
/** The longest debug link that a publisher writes, in bytes. */
const maxLinkBytes = 1024;

/** Returns the key of a path's NAR; null without a narinfo. */
export async function findNarUrl(cache: Bucket, hash: string): Promise<string | null> {
  const narInfo = await readIfBounded(cache, narInfoKey(hash), maxNarInfoBytes);
  return /^URL: (.+)$/m.exec(narInfo?.toString('latin1') ?? '')?.[1] ?? null;
}

/**
 * Deletes the debug links that lead to the NAR of a path. Its listing tells them, so that is deleted
 * afterwards.
 *
 * @param url the key of the NAR. Null when an earlier, interrupted withdrawal deleted the narinfo: then
 *   all links of its build IDs are deleted, also those to other NARs.
 * @param remove deletes one object
 */
export async function withdrawDebugLinks(
  cache: Bucket,
  hash: string,
  url: string | null,
  remove: (bucket: Bucket, key: string) => Promise<void>,
): Promise<void> {
  const listing = await readIfBounded(cache, listingKey(hash), maxDebugListingBytes);
  if (!listing) return;
  await mapConcurrent(findDebugFiles(listing), deletesAtOnce, async (file) => {
    const key = debugKey(file.buildId);
    const link = url === null ? null : await readIfBounded(cache, key, maxLinkBytes);
    const isOwn = url === null || link?.toString() === formatDebugLink(url, file);
    if (isOwn) await remove(cache, key);
  });
}

/** Returns null when the object is missing or larger than publishers write it. */
async function readIfBounded(cache: Bucket, key: string, maxBytes: number): Promise<Buffer | null> {
  try {
    return await readObject(cache, key, maxBytes);
  } catch (error) {
    if (isNicheError(error, 'oversized')) return null;
    throw error;
  }
}
