import { createHash } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';

import { createLimit, mapConcurrent } from '../../util/concurrency.ts';
import { isNicheError } from '../../errors.ts';
import type { PathInfo } from '../../nix/path-info.ts';
import { isLarge } from './batcher.ts';
import { manifestKey, stagedNarsKey } from '../layout.ts';
import type { BatchId } from '../layout.ts';
import { packVerified } from './local-path.ts';
import type { LocalPath } from './local-path.ts';
import { formatManifest } from '../manifest.ts';
import { writeObject } from '../objects.ts';
import { stageLarge } from './large-upload.ts';
import type { LargeOptions, Staged } from './large-upload.ts';
import { createLogStaging } from './stage-logs.ts';

export interface Batch {
  readonly id: BatchId;
  readonly paths: readonly LocalPath[];
  /** What its manifest waits for. */
  readonly after: readonly Promise<unknown>[];
}

export interface BatchOptions extends LargeOptions {
  readonly storeDir: string;
  /** Hears of each batch once its manifest is stored. */
  readonly onStaged: (id: BatchId, paths: readonly PathInfo[]) => void;
}

/**
 * @returns what stores a batch: its NARs and build logs, and then its manifest, for which a publisher
 * waits; it throws the first failure of storage
 */
export function createBatchStaging(options: BatchOptions): (batch: Batch) => Promise<void> {
  const { bucket, journal, signal } = options;
  const logs = createLogStaging(bucket, options.storeDir);
  const packInTurn = createLimit(1);

  async function stage({ id: next, paths, after }: Batch): Promise<void> {
    signal?.throwIfAborted();
    const large = paths.find(({ info }) => isLarge(info));
    const { id, staged } = large
      ? await stageLarge(next, large, options)
      : await stageSmall(next, paths);
    if (staged.length === 0) return;
    if (large) await logs.stage(id.upload, staged);
    const infos = staged.map(({ info }) => info);
    journal?.noteStaged(id, infos, false);
    const manifest = formatManifest({ encoding: 'none', paths: infos });
    // A publisher that began with this batch would find its references missing, and would have to put
    // aside and take up again each path of it: that is several requests a path, and this is none.
    await Promise.all(after);
    const writeManifest = writeObject(bucket, manifestKey(id), manifest, { ifAbsent: true });
    await writeManifest.catch(takeAwayIfFull(id, staged));
    journal?.noteStaged(id, infos, true);
    if (large) journal?.forgetUnfinished(large.info);
    options.onStaged(id, infos);
  }

  async function stageSmall(id: BatchId, paths: readonly LocalPath[]): Promise<Staged> {
    // There is one thread to pack with: in turn, one batch is on its way while the next is packed.
    const { staged, body } = await packInTurn(() => packSmall(paths));
    if (staged.length === 0) return { id, staged };
    const writeNars = (): Promise<unknown> =>
      writeObject(bucket, stagedNarsKey(id, 'none'), body, {
        ifAbsent: true,
        sha256: createHash('sha256').update(body).digest(),
        signal,
      });
    const writes = [writeNars, () => logs.stage(id.upload, staged)];
    await mapConcurrent(writes, writes.length, (write) => write()).catch(
      takeAwayIfFull(id, staged),
    );
    return { id, staged };
  }

  async function packSmall(
    paths: readonly LocalPath[],
  ): Promise<{ readonly staged: LocalPath[]; readonly body: Buffer }> {
    const staged: LocalPath[] = [];
    const nars: Uint8Array[] = [];
    for (const path of paths) {
      // Packing takes no turn of the event loop by itself; what is packed already is to be sent meanwhile.
      await setImmediate();
      const chunks: Uint8Array[] = [];
      const keep = async (nar: AsyncIterable<Uint8Array>): Promise<void> => {
        for await (const chunk of nar) chunks.push(chunk);
      };
      if (!(await packVerified(path, keep, options.onFailed))) continue;
      staged.push(path);
      nars.push(...chunks);
    }
    return { staged, body: Buffer.concat(nars) };
  }

  /**
   * Takes away what a batch without a manifest has staged, and throws the error again: nobody would come for
   * it for days, and it takes what room there is. Any other failure may be that of the answer alone.
   */
  function takeAwayIfFull(
    id: BatchId,
    paths: readonly LocalPath[],
  ): (error: unknown) => Promise<never> {
    return async (error) => {
      if (isNicheError(error, 'storage-full')) {
        const keys = [stagedNarsKey(id, 'none'), ...logs.keysOf(id.upload, paths)];
        await bucket.delete(keys).catch(() => undefined);
      }
      throw error;
    };
  }

  return stage;
}
