import { isNicheError } from '../../errors.ts';
import { maxRealisationBytes } from '../../limits.ts';
import { parseRealisationValue, realisationLayouts } from '../../nix/realisation.ts';
import type { Realisation } from '../../nix/realisation.ts';
import { storeHash } from '../../nix/store-path.ts';
import type { Bucket } from '../../storage/bucket.ts';
import { mapConcurrent } from '../../util/concurrency.ts';
import { logKey, realisedByPrefix } from '../layout.ts';
import type { CacheBuckets } from '../layout.ts';
import { realisationClaim } from '../manifest.ts';
import { readObject } from '../objects.ts';
import { readStoredJson } from '../stored-json.ts';
import type { JsonFormat } from '../stored-json.ts';

const indexFormat: JsonFormat<Realisation> = {
  code: 'failed',
  schema: realisationClaim,
  maxBytes: maxRealisationBytes,
};

const deletesAtOnce = 16;

/**
 * Deletes the realisations whose output has this store hash, with the build logs of their derivations. A publisher writes the index that lists
 * them before it creates one.
 *
 * @param remove deletes one object
 */
export async function withdrawRealisations(
  { public: cache, private: privateRoot }: Pick<CacheBuckets, 'public' | 'private'>,
  hash: string,
  remove: (bucket: Bucket, key: string) => Promise<void>,
): Promise<void> {
  const indexed: string[] = [];
  for await (const { key } of privateRoot.list(realisedByPrefix(hash))) indexed.push(key);
  await mapConcurrent(indexed, deletesAtOnce, async (indexKey) => {
    const realisation = await readIndex(privateRoot, indexKey);
    const keys = realisation ? realisationLayouts.map(({ keyOf }) => keyOf(realisation)) : [];
    for (const key of keys) {
      // Another output may have been published under the key.
      if ((await outputHashOf(cache, key)) === hash) await remove(cache, key);
    }
    // A publisher copies the log of the output there.
    const drvName = realisation?.drvPath.split('/').at(-1);
    if (drvName) await remove(cache, logKey(drvName));
    // Last: a repeated withdrawal finds what is left.
    await privateRoot.delete([indexKey]);
  });
}

/** Whether the index lists realisations of the output. */
export async function hasRealisations(privateRoot: Bucket, hash: string): Promise<boolean> {
  for await (const _object of privateRoot.list(realisedByPrefix(hash))) return true;
  return false;
}

async function readIndex(bucket: Bucket, key: string): Promise<Realisation | null> {
  try {
    return await readStoredJson(bucket, key, indexFormat);
  } catch (error) {
    if (isNicheError(error, 'failed')) return null;
    throw error;
  }
}

/** Returns the store hash of the output of a stored realisation; null without a readable one. */
async function outputHashOf(cache: Bucket, key: string): Promise<string | null> {
  try {
    const body = await readObject(cache, key, maxRealisationBytes);
    if (!body) return null;
    // The store directory does not matter for the hash.
    return storeHash(parseRealisationValue(body.toString('utf8'), '/nix/store').outPath);
  } catch (error) {
    if (isNicheError(error, 'malformed-realisation', 'oversized')) return null;
    throw error;
  }
}
