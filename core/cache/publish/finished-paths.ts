import { storeHash } from '../../nix/store-path.ts';
import type { Bucket } from '../../storage/bucket.ts';
import { mapConcurrent } from '../../util/concurrency.ts';
import { finishedKey, finishedPrefix } from '../layout.ts';
import type { BatchId } from '../layout.ts';
import { createBestEffort } from '../objects.ts';

const writesAtOnce = 64;

/**
 * Marks paths of a batch that takes several calls as finished, so that the next call skips them.
 * Receipts would not do: clients may be able to write those.
 */
export async function markFinished(
  privateRoot: Bucket,
  id: BatchId,
  paths: readonly string[],
): Promise<void> {
  await mapConcurrent(paths, writesAtOnce, (path) =>
    createBestEffort(privateRoot, finishedKey(id, storeHash(path)), ''),
  );
}

/** Returns the store hashes of the batch's finished paths. */
export async function listFinished(privateRoot: Bucket, id: BatchId): Promise<ReadonlySet<string>> {
  const prefix = finishedPrefix(id);
  const finished = new Set<string>();
  for await (const { key } of privateRoot.list(prefix)) finished.add(key.slice(prefix.length));
  return finished;
}
