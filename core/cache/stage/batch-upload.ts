import { createHash } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';

import { isNicheError } from '../../errors.ts';
import { maxLogBytes } from '../../limits.ts';
import type { PathInfo } from '../../nix/path-info.ts';
import type { Realisation } from '../../nix/realisation.ts';
import { baseNameOf } from '../../nix/store-path.ts';
import type { Bucket } from '../../storage/bucket.ts';
import { createLimit, mapConcurrent } from '../../util/concurrency.ts';
import { manifestKey, stagedLogKey, stagedNarsKey } from '../layout.ts';
import type { BatchId } from '../layout.ts';
import { formatManifest, formatRealisationManifest } from '../manifest.ts';
import { createObject, writeObject } from '../objects.ts';
import { isLarge } from './batcher.ts';
import { uploadLargeNar } from './large-upload.ts';
import type { LargeUploadOptions, UploadedNars } from './large-upload.ts';
import { sendVerifiedNar } from './local-path.ts';
import type { LocalPath } from './local-path.ts';

export interface Batch {
  readonly id: BatchId;
  readonly paths: readonly LocalPath[];
  /** A batch has either paths or realisations. */
  readonly realisations: readonly Realisation[];
  /** The manifest is written once all of these have settled. */
  readonly after: readonly Promise<unknown>[];
}

export interface BatchUploadOptions extends LargeUploadOptions {
  readonly storeDir: string;
  /** Called once the manifest of a batch is stored. */
  readonly onStaged: (id: BatchId, paths: readonly PathInfo[]) => void;
  /** Called once the manifest of a batch of realisations is stored. */
  readonly onRealisationsStaged?: (id: BatchId, realisations: readonly Realisation[]) => void;
}

/**
 * Creates a function that uploads a batch: NARs and build logs first, then the manifest, which makes
 * the batch visible to publishers. The function throws `storage-…` or `aborted` on the first failure.
 */
export function createBatchUploader(options: BatchUploadOptions): (batch: Batch) => Promise<void> {
  const { bucket, journal, signal } = options;
  const logs = createLogUploader(bucket, options.storeDir);
  const packInTurn = createLimit(1);

  async function uploadBatch({ id: next, paths, realisations, after }: Batch): Promise<void> {
    signal?.throwIfAborted();
    if (realisations.length > 0) {
      // Their outputs come first, see below.
      await Promise.all(after);
      await createObject(bucket, manifestKey(next), formatRealisationManifest(realisations));
      options.onRealisationsStaged?.(next, realisations);
      return;
    }
    const large = paths.find(({ info }) => isLarge(info));
    const { id, paths: uploaded } = large
      ? await uploadLargeNar(next, large, options)
      : await uploadSmallNars(next, paths);
    if (uploaded.length === 0) return;
    if (large) await logs.uploadLogs(id.upload, uploaded);
    const infos = uploaded.map(({ info }) => info);
    journal?.recordStaged(id, infos, false);
    const manifest = formatManifest({ encoding: 'none', paths: infos });
    // A publisher that started with this batch would find references missing, and would have to park
    // and resume each path, at several requests a path. Waiting here costs none.
    await Promise.all(after);
    await removeIfFull(id, uploaded, () =>
      writeObject(bucket, manifestKey(id), manifest, { ifAbsent: true }),
    );
    journal?.recordStaged(id, infos, true);
    if (large) journal?.forgetUnfinished(large.info);
    options.onStaged(id, infos);
  }

  async function uploadSmallNars(id: BatchId, paths: readonly LocalPath[]): Promise<UploadedNars> {
    // One batch at a time is packed on this thread, while earlier ones are being sent.
    const { packed, body } = await packInTurn(() => packNars(paths));
    if (packed.length === 0) return { id, paths: packed };
    const writeNars = (): Promise<unknown> =>
      writeObject(bucket, stagedNarsKey(id, 'none'), body, {
        ifAbsent: true,
        sha256: createHash('sha256').update(body).digest(),
        signal,
      });
    const writes = [writeNars, () => logs.uploadLogs(id.upload, packed)];
    await removeIfFull(id, packed, () => mapConcurrent(writes, writes.length, (write) => write()));
    return { id, paths: packed };
  }

  async function packNars(
    paths: readonly LocalPath[],
  ): Promise<{ readonly packed: LocalPath[]; readonly body: Buffer }> {
    const packed: LocalPath[] = [];
    const nars: Uint8Array[] = [];
    for (const path of paths) {
      // Packing never yields to the event loop by itself, and earlier batches must be sent meanwhile.
      await setImmediate();
      const chunks: Uint8Array[] = [];
      const keep = async (nar: AsyncIterable<Uint8Array>): Promise<void> => {
        for await (const chunk of nar) chunks.push(chunk);
      };
      if (!(await sendVerifiedNar(path, keep, options.onFailed))) continue;
      packed.push(path);
      nars.push(...chunks);
    }
    return { packed, body: Buffer.concat(nars) };
  }

  /**
   * Runs `write`. When storage is full, deletes the batch's NARs and logs: without a manifest, no
   * publisher would clean them up for days. After any other failure the write may have succeeded.
   */
  async function removeIfFull(
    id: BatchId,
    paths: readonly LocalPath[],
    write: () => Promise<unknown>,
  ): Promise<void> {
    try {
      await write();
    } catch (error) {
      if (isNicheError(error, 'storage-full')) {
        const keys = [stagedNarsKey(id, 'none'), ...logs.logKeys(id.upload, paths)];
        await bucket.delete(keys).catch(() => undefined);
      }
      throw error;
    }
  }

  return uploadBatch;
}

/** Log uploads at once, over all batches: each runs a Nix process and makes a request. */
const logsAtOnce = 8;

/** Uploads build logs: one for each derivation, however many outputs it has. */
interface LogUploader {
  uploadLogs(upload: string, paths: readonly LocalPath[]): Promise<void>;
  /** Returns the keys of the paths' logs. */
  logKeys(upload: string, paths: readonly LocalPath[]): string[];
}

function createLogUploader(bucket: Bucket, storeDir: string): LogUploader {
  const uploaded = new Set<string>();
  const inTurn = createLimit(logsAtOnce);

  function logKey(upload: string, { deriver }: PathInfo): string | null {
    return deriver && stagedLogKey(upload, baseNameOf(deriver, storeDir));
  }

  async function uploadLog(upload: string, { info, readLog }: LocalPath): Promise<void> {
    const key = logKey(upload, info);
    if (!readLog || key === null || uploaded.has(key)) return;
    uploaded.add(key);
    const log = await readLog();
    // Also an empty one: without it, `nix log` would fail.
    if (log && log.length <= maxLogBytes) await createObject(bucket, key, log);
  }

  return {
    async uploadLogs(upload, paths) {
      await mapConcurrent(paths, logsAtOnce, (path) => inTurn(() => uploadLog(upload, path)));
    },
    logKeys: (upload, paths) => paths.flatMap(({ info }) => logKey(upload, info) ?? []),
  };
}
