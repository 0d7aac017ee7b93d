import { splitIntoChunks } from '../../util/chunk.ts';
import { mapConcurrent } from '../../util/concurrency.ts';
import { narInfoKey } from '../layout.ts';
import { adoptGroup } from './adopt-group.ts';
import { openAdoptContext } from './context.ts';
import type { AdoptCounts, AdoptOptions, AdoptResult } from './context.ts';
import { planAdoption } from './plan.ts';
import { repairNar } from './repair-nar.ts';

/** Narinfos that are signed together. Their listings are in memory together, too. */
const groupSize = 64;
/** NARs of signed narinfos checked at once. */
const narsAtOnce = 2;

/**
 * Gives existing narinfos the signature of the cache, as if their paths had been uploaded: a NAR is read
 * and checked, and references come before the paths that refer to them. Narinfos with a valid signature
 * never change, except that a selected one gets back its NAR if that is damaged. It can be stopped at
 * any time: the next run continues.
 *
 * @returns the counts; `onResult` receives each path that is adopted, repaired or refused
 * @throws NicheError `usage` when the storage cannot replace objects conditionally; `aborted`;
 *   `upstream-unavailable`, `wrong-key`, `signer-…`, `storage-…`
 */
export async function adoptNarInfos(options: AdoptOptions): Promise<AdoptCounts> {
  const { onProgress = () => undefined } = options;
  let counts: AdoptCounts = { read: 0, signed: 0, adopted: 0, repaired: 0, refused: 0, changed: 0 };
  const onResult = (result: AdoptResult): void => {
    counts = { ...counts, [result.status]: counts[result.status] + 1 };
    options.onResult(result);
    onProgress(counts);
  };
  const context = await openAdoptContext({ ...options, onResult });
  const plan = await planAdoption({
    bucket: options.public,
    storeDir: options.config.storeDir,
    publicKeys: context.publicKeys,
    selection: options.selection,
    assertRunning: () => {
      context.assertRunning();
    },
    onUnreadable(hash, { code, message }) {
      onResult({ path: narInfoKey(hash), status: 'refused', code, message });
    },
    onRead(read) {
      counts = { ...counts, read };
      onProgress(counts);
    },
  });
  counts = { ...counts, signed: plan.signedCount };
  const adopted = new Set<string>();
  for (const group of splitIntoChunks(plan.unsigned, groupLimits)) {
    context.assertRunning();
    await adoptGroup(context, group, adopted);
  }
  await mapConcurrent(plan.signed, narsAtOnce, async (hash) => {
    context.assertRunning();
    const result = await repairNar(context, hash);
    if (result) onResult(result);
  });
  return counts;
}

const groupLimits = { maxItems: groupSize, maxSize: Infinity, sizeOf: () => 0 };
