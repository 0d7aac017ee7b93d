import type { BatchId } from '../../core/cache/layout.ts';
import type { OpenCache } from '../../core/cache/open.ts';
import { createStager } from '../../core/cache/stage/stager.ts';
import type { UploadJournal } from '../../core/cache/local/upload-journal.ts';
import type { PathInfo } from '../../core/nix/path-info.ts';
import { realisationName } from '../../core/nix/realisation.ts';
import type { Realisation } from '../../core/nix/realisation.ts';
import { readBuildLog } from '../nix/logs.ts';
import type { Nix } from '../nix/nix.ts';
import { readNar } from '../nix/read-nar.ts';
import { stagingOrder } from './select.ts';

/** Stages paths of the store, and knows which batch has which path. */
export interface Staging {
  stage(infos: readonly PathInfo[]): void;
  /** Adopts a path that an earlier run staged in `batch`. */
  adopt(info: PathInfo, batch: BatchId): void;
  stageRealisations(realisations: readonly Realisation[]): void;
  /** Resolves when everything is staged or has failed. */
  finish(): Promise<void>;
  /** Where each path is staged; it grows. */
  readonly batches: ReadonlyMap<string, BatchId>;
  /** Every path that was passed to {@link stage} or {@link adopt}; it grows. */
  readonly infos: ReadonlyMap<string, PathInfo>;
  /** Every realisation that was passed to {@link stageRealisations}, by name; it grows. */
  readonly realisations: ReadonlyMap<string, Realisation>;
}

type SizedPath = Pick<PathInfo, 'path' | 'narSize'>;

export interface StagingOptions {
  readonly nix: Nix;
  readonly cache: OpenCache;
  readonly upload: string;
  readonly journal: UploadJournal;
  /** Whether build logs are staged too. */
  readonly logs: boolean;
  readonly signal: AbortSignal | undefined;
  /** Called with paths, and with realisations by their names. */
  readonly onStaged: (batch: BatchId, infos: readonly SizedPath[]) => void;
  readonly onFailed: (info: SizedPath, error: unknown) => void;
}

export function createStaging(options: StagingOptions): Staging {
  const { nix, cache, upload, journal, logs, signal } = options;
  const batches = new Map<string, BatchId>();
  const known = new Map<string, PathInfo>();
  const realisations = new Map<string, Realisation>();
  const onStaged = (batch: BatchId, infos: readonly SizedPath[]): void => {
    for (const { path } of infos) batches.set(path, batch);
    options.onStaged(batch, infos);
  };
  const stager = createStager({
    bucket: cache.staging,
    upload,
    storeDir: cache.config.storeDir,
    signal,
    journal,
    onStaged,
    onRealisationsStaged(batch, staged) {
      onStaged(
        batch,
        staged.map((each) => ({ path: realisationName(each), narSize: 0 })),
      );
    },
    onFailed(info, error) {
      // An aborted upload has not failed.
      if (signal?.aborted !== true) options.onFailed(info, error);
    },
  });

  return {
    stage(infos) {
      for (const info of stagingOrder(infos)) {
        known.set(info.path, info);
        const { path, deriver } = info;
        stager.addPath({
          info,
          openNar: () => readNar(nix, path, signal),
          ...(logs && deriver !== null ? { readLog: () => readBuildLog(nix, deriver) } : {}),
        });
      }
    },
    adopt(info, batch) {
      known.set(info.path, info);
      batches.set(info.path, batch);
    },
    stageRealisations(some) {
      for (const realisation of some) realisations.set(realisationName(realisation), realisation);
      stager.addRealisations(some);
    },
    finish: () => stager.finish(),
    batches,
    infos: known,
    realisations,
  };
}
