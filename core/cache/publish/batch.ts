import type { Bucket } from '../../storage/bucket.ts';
import { confirmOrigin } from '../audit.ts';
import type { ReportedOrigin } from '../audit.ts';
import { manifestKey, stagedNarsKey } from '../layout.ts';
import type { BatchId } from '../layout.ts';
import { readManifest } from '../manifest.ts';
import type { StagedPath } from './paths.ts';
import type { StagedRealisation } from './pending-realisations.ts';
import { openStagedLogs } from './staged-logs.ts';
import { openStagedNars } from './staged-nars.ts';
import { rejectUnreadable } from './staged-reads.ts';

/** The paths that a client staged together, with their NARs and build logs. */
export interface StagedBatch {
  readonly id: BatchId;
  /** References come before the paths that refer to them. */
  readonly paths: readonly StagedPath[];
  /** A batch has either paths or realisations. */
  readonly realisations: readonly StagedRealisation[];
  /** Divides paths of the batch, in order, into groups whose build logs fit into memory together. */
  groupPaths(paths: readonly StagedPath[]): Promise<StagedPath[][]>;
  /** Returns whether the batch is still staged: no publisher has handled and removed it. */
  isStaged(): Promise<boolean>;
  /** Deletes the manifest, the NARs, and the logs that were read. */
  remove(): Promise<void>;
}

export interface OpenBatchOptions {
  readonly storeDir: string;
  readonly origin: ReportedOrigin | null;
  /** Records a failure to read the manifest or the NARs, and returns the number of earlier ones. */
  readonly countUnreadable: () => Promise<number>;
}

/**
 * Opens a staged batch.
 *
 * @returns null when its manifest is gone, so the batch has been handled
 * @throws NicheError `malformed-manifest`, `failed` for a manifest that can never be read, and the
 *   bucket's errors
 */
export async function openStagedBatch(
  bucket: Bucket,
  id: BatchId,
  { storeDir, origin: reported, countUnreadable }: OpenBatchOptions,
): Promise<StagedBatch | null> {
  const readable = rejectUnreadable(bucket, countUnreadable);
  const found = await readManifest(readable, id, storeDir);
  if (!found) return null;
  const { manifest, etag } = found;
  const origin = confirmOrigin(reported, etag);
  const openNar = openStagedNars(readable, id, manifest);
  const logs = openStagedLogs(readable, id.upload, storeDir);
  const paths = manifest.paths.map((claim, index): StagedPath => ({
    claim,
    upload: id.upload,
    origin,
    openNar: () => openNar(index),
    readLog: () => logs.readLog(claim),
  }));
  const realisations = manifest.realisations.map((realisation) => ({
    realisation,
    upload: id.upload,
    origin,
  }));
  return {
    id,
    paths,
    realisations,
    groupPaths: (some) => logs.groupBySize(some),
    isStaged: async () => (await bucket.head(manifestKey(id))) !== null,
    remove: () => removeStagedBatch(bucket, id, logs.readKeys()),
  };
}

/** Deletes a staged batch and these logs of its upload. */
export async function removeStagedBatch(
  bucket: Bucket,
  id: BatchId,
  logKeys: readonly string[] = [],
): Promise<void> {
  // The manifest first: without it a repeated event ends at once, and a sweep deletes the rest.
  await bucket.delete([manifestKey(id)]);
  await bucket.delete([stagedNarsKey(id, 'none'), stagedNarsKey(id, 'zstd'), ...logKeys]);
}
